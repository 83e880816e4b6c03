//! A proxy of HTTP that breaks what it is told to break: [`Proxy`].
//!
//! Each request is compared with the faults in the order they were planted; the first that fits and has turns left is
//! carried out. Requests are handled to their end even if the client has gone: that is how a put lands late.

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

type Reply = Response<BoxBody<Bytes, io::Error>>;

/// What to do to a request.
#[derive(Clone, Copy, Debug)]
pub enum Action {
    /// Answer with this status and code; the server never sees the request.
    Answer(u16, &'static str),
    /// Let the server do it, then answer with this status and code.
    DoThenAnswer(u16, &'static str),
    /// Close the connection; the server never sees the request.
    Drop,
    /// Let the server do it, then close the connection.
    DoThenDrop,
    /// Hand the request on after this time.
    Delay(Duration),
    /// Let the server do it, answer after this time.
    DoThenDelay(Duration),
    /// Break off the body of the answer after so many bytes.
    CutBody(usize),
}

/// A planted fault.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// The method it fits.
    pub method: &'static str,
    /// What the path and query have to contain.
    pub contains: &'static str,
    /// How often.
    pub times: usize,
    /// What happens.
    pub action: Action,
}

#[derive(Default)]
struct State {
    faults: Vec<Fault>,
    seen: Vec<String>,
}

/// A proxy; it stops when dropped.
pub struct Proxy {
    /// Where it listens.
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
    runtime: Option<Runtime>,
}

impl Proxy {
    /// Stands in front of `server`.
    pub fn start(server: SocketAddr) -> Proxy {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        runtime.spawn(accept(listener, server, state.clone()));
        Proxy { address, state, runtime: Some(runtime) }
    }

    /// Plants a fault.
    pub fn plant(&self, method: &'static str, contains: &'static str, times: usize, action: Action) {
        self.state.lock().unwrap().faults.push(Fault { method, contains, times, action });
    }

    /// Removes all faults.
    pub fn heal(&self) {
        self.state.lock().unwrap().faults.clear();
    }

    /// Counts the requests of `method` whose path and query contain `contains`.
    pub fn count(&self, method: &str, contains: &str) -> usize {
        let begins = format!("{method} ");
        let state = self.state.lock().unwrap();
        state.seen.iter().filter(|line| line.starts_with(&begins) && line.contains(contains)).count()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn accept(listener: TcpListener, server: SocketAddr, state: Arc<Mutex<State>>) {
    loop {
        let Ok((socket, _)) = listener.accept().await else { continue };
        let state = state.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request: Request<Incoming>| {
                let state = state.clone();
                async move {
                    let (parts, body) = request.into_parts();
                    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
                    let request = Request::from_parts(parts, Full::new(body));
                    let fault = choose(&state, &request);
                    tokio::spawn(handle(request, server, fault)).await.map_err(io::Error::other)?
                }
            });
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(socket), service).await;
        });
    }
}

/// Notes the request and takes the fault that it meets.
fn choose(state: &Mutex<State>, request: &Request<Full<Bytes>>) -> Option<Action> {
    let line = format!("{} {}", request.method(), request.uri());
    let mut state = state.lock().unwrap();
    let fits = |fault: &&mut Fault| {
        fault.times > 0 && request.method().as_str() == fault.method && line.contains(fault.contains)
    };
    let met = state.faults.iter_mut().find(fits).map(|fault| {
        fault.times -= 1;
        fault.action
    });
    state.seen.push(line);
    met
}

async fn handle(request: Request<Full<Bytes>>, server: SocketAddr, fault: Option<Action>) -> io::Result<Reply> {
    match fault {
        None => forward(request, server).await.map(whole),
        Some(Action::Answer(status, code)) => Ok(answer(status, code)),
        Some(Action::DoThenAnswer(status, code)) => forward(request, server).await.map(|_| answer(status, code)),
        Some(Action::Drop) => Err(io::Error::other("dropped on purpose")),
        Some(Action::DoThenDrop) => {
            forward(request, server).await?;
            Err(io::Error::other("dropped on purpose"))
        }
        Some(Action::Delay(time)) => {
            tokio::time::sleep(time).await;
            forward(request, server).await.map(whole)
        }
        Some(Action::DoThenDelay(time)) => {
            let reply = forward(request, server).await?;
            tokio::time::sleep(time).await;
            Ok(whole(reply))
        }
        Some(Action::CutBody(bytes)) => {
            let (parts, body) = forward(request, server).await?.into_parts();
            let first = body.slice(..bytes.min(body.len()));
            let frames = [Ok(Frame::data(first)), Err(io::Error::other("cut on purpose"))];
            let body = StreamBody::new(futures_util::stream::iter(frames));
            Ok(Response::from_parts(parts, BodyExt::boxed(body)))
        }
    }
}

async fn forward(request: Request<Full<Bytes>>, server: SocketAddr) -> io::Result<Response<Bytes>> {
    let socket = TcpStream::connect(server).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(socket)).await.map_err(io::Error::other)?;
    tokio::spawn(connection);
    let (parts, body) = sender.send_request(request).await.map_err(io::Error::other)?.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    Ok(Response::from_parts(parts, body))
}

fn whole(reply: Response<Bytes>) -> Reply {
    reply.map(|body| Full::new(body).map_err(|never| match never {}).boxed())
}

fn answer(status: u16, code: &str) -> Reply {
    let body = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>planted</Message></Error>");
    whole(Response::builder().status(status).body(Bytes::from(body)).unwrap())
}
