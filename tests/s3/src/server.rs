//! An S3 server over a directory, on a free port of 127.0.0.1: [`Server`].
//!
//! It is `s3s-fs` with two things added: conditional puts are taken one after another, because its check and its write
//! are two steps; and a request is read to its end before it is answered, because an early answer over a connection with
//! unread bytes is lost when that is closed.

use http_body_util::BodyExt;
use hyper::Request;
use hyper::body::Incoming;
use hyper::header::IF_NONE_MATCH;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

/// The access key that the server knows.
pub const ACCESS_KEY: &str = "AKIDTESTSERVER";
/// Its secret key.
pub const SECRET_KEY: &str = "secret/of+the/test+server";

/// A server; it stops when dropped.
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    runtime: Option<Runtime>,
}

impl Server {
    /// Serves the directories below `root` as buckets.
    pub fn start(root: &Path) -> Server {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let service = {
            let mut builder = S3ServiceBuilder::new(s3s_fs::FileSystem::new(root).unwrap());
            builder.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
            builder.build()
        };
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        runtime.spawn(serve(listener, service));
        Server { address, runtime: Some(runtime) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn serve(listener: TcpListener, service: S3Service) {
    let conditional = Arc::new(tokio::sync::Mutex::new(()));
    loop {
        let Ok((socket, _)) = listener.accept().await else { continue };
        let (service, conditional) = (service.clone(), conditional.clone());
        tokio::spawn(async move {
            let one_by_one = service_fn(move |request: Request<Incoming>| {
                let (service, conditional) = (service.clone(), conditional.clone());
                async move {
                    let (parts, body) = request.into_parts();
                    let body = body.collect().await.map_err(|error| s3s::HttpError::new(Box::new(error)))?.to_bytes();
                    let request = Request::from_parts(parts, s3s::Body::from(body));
                    let alone = request.headers().contains_key(IF_NONE_MATCH);
                    let _turn = if alone { Some(conditional.lock().await) } else { None };
                    service.call(request).await
                }
            });
            let _ = Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(socket), one_by_one).await;
        });
    }
}
