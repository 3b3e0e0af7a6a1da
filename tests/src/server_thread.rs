//! A server on a thread of this process, with a runtime of its own.

use std::thread::{self, JoinHandle};

use anyhow::{Result, anyhow};
use tokio::sync::oneshot;

/// Serves until this is dropped; its connections are closed with it.
#[derive(Debug)]
pub struct ServerThread {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl ServerThread {
    /// Runs what `serve` makes. A socket stays in the namespace that it was opened in: with listeners
    /// that are open already, the thread need not be there.
    pub fn start<Serving>(
        name: &str,
        serve: impl FnOnce() -> Serving + Send + 'static,
    ) -> Result<Self>
    where
        Serving: Future<Output = Result<()>>,
    {
        let (stop, stopped) = oneshot::channel();
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                tokio::select! {
                    served = serve() => served,
                    _ = stopped => Ok(()),
                }
            })
        })?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }

    /// Ends the server; says why if it had failed before.
    pub fn stop(mut self) -> Result<()> {
        self.end()
    }

    fn end(&mut self) -> Result<()> {
        drop(self.stop.take());
        match self.thread.take() {
            Some(thread) => thread.join().map_err(|_| anyhow!("a server panicked"))?,
            None => Ok(()),
        }
    }
}

impl Drop for ServerThread {
    fn drop(&mut self) {
        // A failure shows in what the test sees of the server.
        let _ = self.end();
    }
}
