//! Stackful fibers: what a simulated thread runs on.
//!
//! A fiber is a coroutine of `corosensei` on a 256 KiB stack; stacks are pooled for each OS thread. The world resumes a fiber,
//! the fiber suspends itself inside an operation of the environment. A fiber that is killed is resumed one last time and
//! unwinds with the payload [`Killed`], so that destructors run.

use crate::world::{self, World};
use corosensei::stack::DefaultStack;
use corosensei::{Coroutine, CoroutineResult, Yielder};
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// The size of a stack. Debug builds of the engine use about a tenth.
const STACK_BYTES: usize = 256 * 1024;
/// How many stacks an OS thread keeps for later worlds.
const STACKS_POOLED_MAX: usize = 64;

mod pool {
    use super::{Cell, DefaultStack, RefCell, YielderPointer};
    thread_local! {
        pub(super) static STACKS: RefCell<Vec<DefaultStack>> = const { RefCell::new(Vec::new()) };
        pub(super) static YIELDER: Cell<YielderPointer> = const { Cell::new(std::ptr::null()) };
    }
}

/// Where a fiber gives control back to the world.
pub(crate) type YielderPointer = *const Yielder<(), ()>;

/// The payload that a killed fiber unwinds with.
pub(crate) struct Killed;

/// How a fiber came back.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Came {
    /// It suspended itself.
    Suspended,
    /// Its body returned.
    Returned,
    /// Its body panicked.
    Panicked,
}

/// A started or not yet started fiber.
pub(crate) struct Fiber {
    coroutine: Coroutine<(), (), Came, DefaultStack>,
    yielder: YielderPointer,
}

impl Fiber {
    pub(crate) fn new(body: Box<dyn FnOnce()>) -> Fiber {
        let stack = pool::STACKS.with(|stacks| stacks.borrow_mut().pop());
        let stack = stack.unwrap_or_else(|| DefaultStack::new(STACK_BYTES).expect("memory for the stack of a fiber"));
        let coroutine = Coroutine::with_stack(stack, move |yielder: &Yielder<(), ()>, ()| {
            pool::YIELDER.set(yielder);
            let run = move || {
                let body = body;
                if world::current().is_some_and(|world| world.killing()) {
                    // Killed before it began: what it captured is dropped while it unwinds, as in any other killed fiber.
                    resume_unwind(Box::new(Killed));
                }
                body();
            };
            match catch_unwind(AssertUnwindSafe(run)) {
                Ok(()) => Came::Returned,
                Err(payload) if payload.is::<Killed>() => Came::Returned,
                Err(_) => Came::Panicked,
            }
        });
        Fiber { coroutine, yielder: std::ptr::null() }
    }

    /// Runs the fiber until it suspends itself or ends.
    pub(crate) fn resume(&mut self) -> Came {
        pool::YIELDER.set(self.yielder);
        let came = match self.coroutine.resume(()) {
            CoroutineResult::Yield(()) => Came::Suspended,
            CoroutineResult::Return(came) => came,
        };
        self.yielder = pool::YIELDER.get();
        came
    }

    /// Gives the stack of an ended fiber back to the pool.
    pub(crate) fn recycle(self) {
        let stack = self.coroutine.into_stack();
        pool::STACKS.with(|stacks| {
            let mut stacks = stacks.borrow_mut();
            if stacks.len() < STACKS_POOLED_MAX {
                stacks.push(stack);
            }
        });
    }

    /// Abandons a fiber that suspends itself while it is killed: its stack and all that it owns leak.
    #[expect(unsafe_code, reason = "the one way to give up a coroutine without unwinding it")]
    pub(crate) fn leak(mut self) {
        // SAFETY: the stack is forgotten with everything on it, so no value on it is used or freed again.
        unsafe { self.coroutine.force_reset() };
        std::mem::forget(self.coroutine.into_stack());
    }
}

/// Gives control to the world; returns when the fiber is resumed.
///
/// Unwinds if it was resumed to be killed.
#[expect(unsafe_code, reason = "the yielder is only reachable by reference inside the coroutine's first function")]
pub(crate) fn suspend(world: &World) {
    let yielder = pool::YIELDER.get();
    assert!(!yielder.is_null(), "only a fiber suspends itself");
    // SAFETY: set by the fiber that is running (at its start, or by `resume`), whose first frame, which owns the yielder,
    // is live as long as the fiber runs.
    unsafe { (*yielder).suspend(()) };
    if world.killing() {
        resume_unwind(Box::new(Killed));
    }
}

/// Suspends a fiber that is being killed, for good. The world leaks it.
#[expect(unsafe_code, reason = "see `suspend`")]
pub(crate) fn suspend_for_good() -> ! {
    // SAFETY: as in `suspend`.
    unsafe { (*pool::YIELDER.get()).suspend(()) };
    unreachable!("a leaked fiber is never resumed");
}

/// Records panics inside worlds instead of printing them. Installed once for the process, in front of the former hook.
pub(crate) fn install_panic_hook() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let former = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let text = info.payload_as_str().unwrap_or("a panic without a message");
            let place = info.location().map(|at| format!(" at {}:{}", at.file(), at.line())).unwrap_or_default();
            if !world::note_panic(format!("{text}{place}")) {
                former(info);
            }
        }));
    });
}
