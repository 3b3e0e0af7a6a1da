//! A TCP connection to a peer: handshake, greeting, and then messages in both directions, each of which has a
//! task. I/O; the driver starts it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{Notify, mpsc};
use tokio::time::timeout;

use super::fsm;
use super::key::{Key, Keys};
use super::noise::{Cipher, Dialing, HANDSHAKE, NoiseError, PREFACE, TAG, accept};
use super::packet::{Bye, Hello, Message};
use super::refusal::Refusal;

/// For each step of the way to a connection.
pub const CONNECT: Duration = Duration::from_secs(1);
const HANDSHAKE_TIME: Duration = Duration::from_secs(1);

/// A connection whose ends know each other.
pub struct Connection {
    pub hello: Hello,
    /// What the peer proved itself with.
    pub key: Key,
    stream: TcpStream,
    cipher: Arc<Cipher>,
    sent: u64,
    received: u64,
}

/// Connects to a peer, from the address that it knows this node by.
pub async fn dial(peer: SocketAddr, key: Key, own: &Hello) -> Result<Connection, Refusal> {
    let connected = async {
        let socket = if peer.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.bind(SocketAddr::new(own.listen.ip(), 0))?;
        socket.connect(peer).await
    };
    let stream = match timeout(CONNECT, connected).await {
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
            return Err(Refusal::NoListener);
        }
        Ok(stream) => stream.map_err(|error| lost(&error))?,
        Err(_) => return Err(Refusal::Lost("it does not answer".to_owned())),
    };
    timeout(HANDSHAKE_TIME, greet(stream, key, own)).await.unwrap_or(Err(Refusal::Slow))
}

async fn greet(mut stream: TcpStream, key: Key, own: &Hello) -> Result<Connection, Refusal> {
    let (dialing, first) = Dialing::start(&key)?;
    send(&mut stream, &first).await?;
    let answer = read_handshake(&mut stream).await;
    if matches!(answer, Err(Refusal::Lost(_))) {
        // Nobody says why.
        let why = "it closed the connection in the handshake: its key may be another one";
        return Err(Refusal::Lost(why.to_owned()));
    }
    let answer = answer?;
    let cipher = Arc::new(dialing.finish(&answer)?);
    send(&mut stream, &cipher.seal(0, &Message::Hello(own.clone()).emit())?).await?;
    let hello = read_hello(&mut stream, &cipher).await?;
    check(&hello, own)?;
    Ok(Connection { hello, key, stream, cipher, sent: 1, received: 1 })
}

/// Answers one who has connected. `is_peer` says whether it is one, by where it listens.
pub async fn answer(
    stream: TcpStream,
    keys: &Keys,
    own: &Hello,
    is_peer: impl Fn(SocketAddr) -> bool,
) -> Result<Connection, Refusal> {
    let answered = answer_greeting(stream, keys, own, is_peer);
    timeout(HANDSHAKE_TIME, answered).await.unwrap_or(Err(Refusal::Slow))
}

async fn answer_greeting(
    mut stream: TcpStream,
    keys: &Keys,
    own: &Hello,
    is_peer: impl Fn(SocketAddr) -> bool,
) -> Result<Connection, Refusal> {
    let mut preface = [0; PREFACE.len()];
    stream.read_exact(&mut preface).await.map_err(|error| lost(&error))?;
    if preface != PREFACE {
        return Err(NoiseError::Preface.into());
    }
    let first = read_handshake(&mut stream).await?;
    let (cipher, answer, key) = accept(keys.iter(), &first)?;
    let cipher = Arc::new(cipher);
    send(&mut stream, &answer).await?;
    let hello = read_hello(&mut stream, &cipher).await?;
    let outcome = check(&hello, own);
    let outcome =
        outcome.and_then(|()| if is_peer(hello.listen) { Ok(()) } else { Err(Refusal::Stranger) });
    if let Err(refusal) = outcome {
        let bye = if matches!(refusal, Refusal::Version { .. }) {
            Bye::Version
        } else if refusal == Refusal::Stranger {
            Bye::Stranger
        } else {
            Bye::Other(0)
        };
        send(&mut stream, &cipher.seal(0, &Message::Bye(bye).emit())?).await?;
        return Err(refusal);
    }
    send(&mut stream, &cipher.seal(0, &Message::Hello(own.clone()).emit())?).await?;
    Ok(Connection { hello, key, stream, cipher, sent: 1, received: 1 })
}

fn check(hello: &Hello, own: &Hello) -> Result<(), Refusal> {
    let Hello { oldest, newest, instance, .. } = *hello;
    if instance == own.instance {
        return Err(Refusal::Itself);
    }
    fsm::agree(hello).map(drop).ok_or(Refusal::Version { oldest, newest })
}

async fn send(stream: &mut TcpStream, bytes: &[u8]) -> Result<(), Refusal> {
    stream.write_all(bytes).await.map_err(|error| lost(&error))
}

async fn read_handshake(stream: &mut TcpStream) -> Result<[u8; HANDSHAKE], Refusal> {
    let length = stream.read_u16().await.map_err(|error| lost(&error))?;
    if usize::from(length) != HANDSHAKE {
        return Err(NoiseError::Length.into());
    }
    let mut message = [0; HANDSHAKE];
    stream.read_exact(&mut message).await.map_err(|error| lost(&error))?;
    Ok(message)
}

async fn read_hello(stream: &mut TcpStream, cipher: &Cipher) -> Result<Hello, Refusal> {
    match read_message(stream, cipher, 0).await? {
        Some(Message::Hello(hello)) => Ok(hello),
        Some(Message::Bye(bye)) => Err(Refusal::Session(fsm::Reason::Bye(bye))),
        Some(_) | None => Err(Refusal::NoHello),
    }
}

/// The next message, which has this number. `None`: one that need not be known.
async fn read_message(
    stream: &mut (impl tokio::io::AsyncRead + Unpin),
    cipher: &Cipher,
    number: u64,
) -> Result<Option<Message>, Refusal> {
    let length = usize::from(stream.read_u16().await.map_err(|error| lost(&error))?);
    if length < TAG {
        return Err(NoiseError::Length.into());
    }
    let mut sealed = vec![0; length];
    stream.read_exact(&mut sealed).await.map_err(|error| lost(&error))?;
    Ok(Message::parse(&cipher.open(number, &sealed)?)?)
}

fn lost(error: &std::io::Error) -> Refusal {
    if error.kind() == std::io::ErrorKind::UnexpectedEof {
        return Refusal::Lost("it closed the connection".to_owned());
    }
    Refusal::Lost(error.to_string())
}

/// What comes from a connection.
#[derive(Debug)]
pub enum Input {
    Message(Message),
    Ended(Refusal),
}

/// What goes to a connection: messages, and how many of their bytes wait.
#[derive(Clone, Debug)]
pub struct Outbox {
    messages: mpsc::UnboundedSender<Vec<u8>>,
    waiting: Arc<AtomicUsize>,
}

impl Outbox {
    pub fn send(&self, message: &Message) {
        let bytes = message.emit();
        self.waiting.fetch_add(bytes.len(), Ordering::Relaxed);
        // Of a connection that has ended: it is said elsewhere.
        let _ = self.messages.send(bytes);
    }

    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }
}

/// Ends the reading of a connection when it goes; the writing ends with the outbox, once all has left.
#[derive(Debug)]
pub struct Reading(tokio::task::JoinHandle<()>);

impl Drop for Reading {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Connection {
    /// Starts both directions. What comes goes to `inbox` with the number `id`; `wrote` is told when something has
    /// left. Must be called within a tokio runtime.
    pub fn start(
        self,
        id: u64,
        inbox: mpsc::Sender<(u64, Input)>,
        wrote: Arc<Notify>,
    ) -> (Outbox, Reading) {
        let Self { stream, cipher, sent, received, .. } = self;
        // A change that waits for others does so before it comes here.
        if let Err(error) = stream.set_nodelay(true) {
            log::debug!("sync: TCP_NODELAY: {error}");
        }
        let (reader, writer) = stream.into_split();
        let (messages, queue) = mpsc::unbounded_channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let outbox = Outbox { messages, waiting: Arc::clone(&waiting) };
        let reading = read(reader, Arc::clone(&cipher), received, (id, inbox));
        let writing = write(writer, cipher, sent, queue, (waiting, wrote));
        drop(tokio::spawn(writing));
        (outbox, Reading(tokio::spawn(reading)))
    }
}

async fn read(
    reader: OwnedReadHalf,
    cipher: Arc<Cipher>,
    first: u64,
    (id, inbox): (u64, mpsc::Sender<(u64, Input)>),
) {
    let mut reader = BufReader::with_capacity(64 << 10, reader);
    for number in first.. {
        let input = match read_message(&mut reader, &cipher, number).await {
            Ok(None) => continue,
            Ok(Some(message)) => Input::Message(message),
            Err(refusal) => Input::Ended(refusal),
        };
        let is_end = matches!(input, Input::Ended(_));
        if inbox.send((id, input)).await.is_err() || is_end {
            return;
        }
    }
}

async fn write(
    mut writer: OwnedWriteHalf,
    cipher: Arc<Cipher>,
    first: u64,
    mut queue: mpsc::UnboundedReceiver<Vec<u8>>,
    (waiting, wrote): (Arc<AtomicUsize>, Arc<Notify>),
) {
    let mut number = first;
    while let Some(message) = queue.recv().await {
        let Ok(sealed) = cipher.seal(number, &message) else { return };
        number += 1;
        // The reader says why a connection ends.
        let Ok(Ok(())) = timeout(fsm::SILENCE, writer.write_all(&sealed)).await else { return };
        waiting.fetch_sub(message.len(), Ordering::Relaxed);
        wrote.notify_one();
    }
}
