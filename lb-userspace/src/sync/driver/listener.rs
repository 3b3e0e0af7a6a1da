//! Takes connections of peers, as many at once as there may be. I/O.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;

use super::super::connection::{self, Connection};
use super::super::key::Keys;
use super::super::packet::Hello;
use super::super::refusal::Refusal;

/// Handshakes at once.
const AT_ONCE: usize = 16;

/// Who may connect, and by what.
pub(super) struct Terms {
    pub(super) peers: Vec<SocketAddr>,
    pub(super) keys: Keys,
    pub(super) own: Hello,
}

/// What came of somebody's wish to connect.
pub(super) struct Answered {
    pub(super) from: SocketAddr,
    pub(super) outcome: Result<Connection, Refusal>,
}

/// A task that listens; it ends when this goes.
pub(super) struct Listener(JoinHandle<()>);

impl Drop for Listener {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Listener {
    /// # Errors
    /// The address is not there, or taken.
    pub(super) async fn start(
        terms: Arc<Terms>,
        answered: mpsc::Sender<Answered>,
    ) -> std::io::Result<Self> {
        let listener = TcpListener::bind(terms.own.listen).await?;
        Ok(Self(tokio::spawn(listen(listener, terms, answered))))
    }
}

async fn listen(listener: TcpListener, terms: Arc<Terms>, answered: mpsc::Sender<Answered>) {
    let room = Arc::new(Semaphore::new(AT_ONCE));
    loop {
        let (stream, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, most likely: others may go meanwhile.
                log::debug!("sync: accepting a connection: {error}");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                continue;
            }
        };
        let refusal = if terms.peers.iter().all(|peer| peer.ip() != from.ip()) {
            Some(Refusal::Stranger)
        } else if room.available_permits() == 0 {
            Some(Refusal::TooMany)
        } else {
            None
        };
        if let Some(refusal) = refusal {
            // Rather lost than waited for.
            let _ = answered.try_send(Answered { from, outcome: Err(refusal) });
            continue;
        }
        let (terms, answered, room) = (Arc::clone(&terms), answered.clone(), Arc::clone(&room));
        tokio::spawn(async move {
            let Ok(_permit) = room.acquire().await else { return };
            let outcome = answer(stream, from, &terms).await;
            // The engine has ended.
            let _ = answered.send(Answered { from, outcome }).await;
        });
    }
}

async fn answer(
    stream: TcpStream,
    from: SocketAddr,
    Terms { peers, keys, own }: &Terms,
) -> Result<Connection, Refusal> {
    let is_peer = |listens: SocketAddr| listens.ip() == from.ip() && peers.contains(&listens);
    connection::answer(stream, keys, own, is_peer).await
}
