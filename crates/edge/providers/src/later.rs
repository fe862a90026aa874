//! One answer that comes later from another thread, without an async runtime.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll, Waker};

struct Slot<T> {
    answer: Option<T>,
    waker: Option<Waker>,
}

/// Whoever waits. Dropping it tells the answering side that nobody does.
pub(crate) struct Waiting<T>(Arc<Mutex<Slot<T>>>);

/// Whoever answers.
pub(crate) struct Answering<T>(Weak<Mutex<Slot<T>>>);

/// Two ends of one answer.
pub(crate) fn later<T>() -> (Answering<T>, Waiting<T>) {
    let slot = Arc::new(Mutex::new(Slot {
        answer: None,
        waker: None,
    }));
    (Answering(Arc::downgrade(&slot)), Waiting(slot))
}

impl<T> Answering<T> {
    /// Whether the other end is still there.
    pub(crate) fn is_awaited(&self) -> bool {
        self.0.strong_count() > 0
    }

    /// Answers, if somebody still waits.
    pub(crate) fn answer(self, answer: T) {
        let Some(slot) = self.0.upgrade() else {
            return;
        };
        let waker = {
            let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
            slot.answer = Some(answer);
            slot.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T> Future for Waiting<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match slot.answer.take() {
            Some(answer) => Poll::Ready(answer),
            None => {
                slot.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_reaches_the_one_who_waits() {
        let (answering, waiting) = later();
        let thread = std::thread::spawn(move || answering.answer(7));
        assert_eq!(block_on(waiting), 7);
        thread.join().unwrap();
    }

    #[test]
    fn a_dropped_wait_is_noticed() {
        let (answering, waiting) = later::<()>();
        assert!(answering.is_awaited());
        drop(waiting);
        assert!(!answering.is_awaited());
        answering.answer(());
    }

    fn block_on<T>(mut future: Waiting<T>) -> T {
        struct Unpark(std::thread::Thread);
        impl std::task::Wake for Unpark {
            fn wake(self: Arc<Self>) {
                self.0.unpark();
            }
        }
        let waker = Arc::new(Unpark(std::thread::current())).into();
        loop {
            match Pin::new(&mut future).poll(&mut Context::from_waker(&waker)) {
                Poll::Ready(answer) => return answer,
                Poll::Pending => std::thread::park(),
            }
        }
    }
}
