//! Messages between threads of which one waits in poll(2): a bounded queue and a descriptor that wakes. I/O.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use nix::sys::eventfd::{EfdFlags, EventFd};

/// The end that sends. Never waits: what does not fit is lost, which its receiver can be told.
#[derive(Clone, Debug)]
pub struct Sender<T> {
    queue: SyncSender<T>,
    wake: Arc<EventFd>,
}

/// A queue for `capacity` messages, whose receiver is woken by `wake`.
pub fn channel<T>(capacity: usize, wake: &Arc<EventFd>) -> (Sender<T>, Receiver<T>) {
    let (queue, receiver) = sync_channel(capacity);
    (Sender { queue, wake: Arc::clone(wake) }, receiver)
}

/// A descriptor to wait for.
pub fn waker() -> nix::Result<Arc<EventFd>> {
    EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK).map(Arc::new)
}

/// Makes ready for the next wake.
pub fn clear(wake: &EventFd) {
    // Nothing to read: nobody woke.
    let _ = wake.read();
}

impl<T> Sender<T> {
    /// `false`: there was no room, or there is nobody any more.
    pub fn send(&self, message: T) -> bool {
        match self.queue.try_send(message) {
            Ok(()) => {
                // It can only fail where the receiver has been woken 2^64 times.
                let _ = self.wake.write(1);
                true
            }
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    use super::*;

    #[test]
    fn a_message_wakes_and_one_too_many_is_lost() {
        let wake = waker().unwrap();
        let (sender, receiver) = channel(2, &wake);
        let ready = || {
            let mut fds = [PollFd::new(wake.as_fd(), PollFlags::POLLIN)];
            poll(&mut fds, PollTimeout::ZERO).unwrap() == 1
        };
        assert!(!ready());
        assert!(sender.send(1) && sender.send(2) && !sender.send(3));
        assert!(ready());
        clear(&wake);
        assert!(!ready());
        assert_eq!(receiver.try_iter().collect::<Vec<_>>(), [1, 2]);
        drop(receiver);
        assert!(!sender.send(4));
    }
}
