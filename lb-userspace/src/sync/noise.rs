//! Proof of identity and encryption: Noise with a shared key (noiseprotocol.org, pattern NNpsk0), over a stream.
//! Bytes in, bytes out: sockets are the driver's. Pure.
//!
//! ```text
//!  dials                                   accepts
//!  "FLS" 1, e ────────────────────────────►   proves the key: else refused
//!      ◄──────────────────────────────── e, ee
//!  hello ─────────────────────────────────►   proves that the first message was no replay
//!      ◄───────────────────────────────── hello
//! ```
//!
//! Each message has its length (2 bytes) in front. Nonces are counted by both sides: what is replayed, left out or
//! forged does not decrypt, and the connection ends. The key alone proves a node; ephemeral keys of both sides make
//! that a key that gets known later opens no recorded connection.

use snow::{Builder, HandshakeState, StatelessTransportState};
use thiserror::Error;

use super::key::Key;

/// What one who dials says first, in clear: magic, and the version of this handshake.
pub const PREFACE: [u8; 4] = *b"FLS\x01";
/// Bytes of each of the two messages of the handshake: an ephemeral key, and the tag of nothing.
pub const HANDSHAKE: usize = 48;
/// Of an encrypted message more than of the message.
pub const TAG: usize = 16;

const PATTERN: &str = "Noise_NNpsk0_25519_ChaChaPoly_SHA256";

/// Why a connection is refused before anything is said on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NoiseError {
    #[error("it does not speak this protocol, or another version of it")]
    Preface,
    #[error("its handshake is too long or too short")]
    Length,
    #[error("it has none of our keys")]
    Key,
    #[error("what it sends is forged, replayed or damaged")]
    Forged,
    #[error("the encryption is not available")]
    Unavailable,
}

/// The handshake of one who dials.
pub struct Dialing(HandshakeState);

impl Dialing {
    /// Starts, and says what to send: preface, length and message.
    pub fn start(key: &Key) -> Result<(Self, Vec<u8>), NoiseError> {
        let mut state = builder(key)?.build_initiator().map_err(|_| NoiseError::Unavailable)?;
        let message = write(&mut state)?;
        Ok((Self(state), [&PREFACE[..], &length_of(&message), &message].concat()))
    }

    /// The answer, without its length.
    pub fn finish(mut self, answer: &[u8]) -> Result<Cipher, NoiseError> {
        read(&mut self.0, answer)?;
        Cipher::new(self.0)
    }
}

/// Answers one who dials with the message, without preface and length: what to send, and which key it was.
pub fn accept<'a>(
    keys: impl IntoIterator<Item = &'a Key>,
    message: &[u8],
) -> Result<(Cipher, Vec<u8>, Key), NoiseError> {
    if message.len() != HANDSHAKE {
        return Err(NoiseError::Length);
    }
    for key in keys {
        let mut state = builder(key)?.build_responder().map_err(|_| NoiseError::Unavailable)?;
        if read(&mut state, message).is_ok() {
            let answer = write(&mut state)?;
            let framed = [&length_of(&answer)[..], &answer].concat();
            return Ok((Cipher::new(state)?, framed, *key));
        }
    }
    Err(NoiseError::Key)
}

/// Both directions of a connection whose key is proved. Whoever uses it counts each direction's messages.
pub struct Cipher(StatelessTransportState);

impl Cipher {
    fn new(state: HandshakeState) -> Result<Self, NoiseError> {
        state.into_stateless_transport_mode().map(Self).map_err(|_| NoiseError::Unavailable)
    }

    /// The message with this number, encrypted, with its length in front.
    pub fn seal(&self, number: u64, message: &[u8]) -> Result<Vec<u8>, NoiseError> {
        let mut sealed = vec![0; 2 + message.len() + TAG];
        let (front, rest) = sealed.split_at_mut(2);
        let length = self.0.write_message(number, message, rest);
        let length = length.map_err(|_| NoiseError::Unavailable)?;
        let length = u16::try_from(length).map_err(|_| NoiseError::Length)?;
        front.copy_from_slice(&length.to_be_bytes());
        Ok(sealed)
    }

    /// The message with this number, without its length.
    pub fn open(&self, number: u64, sealed: &[u8]) -> Result<Vec<u8>, NoiseError> {
        let mut message = vec![0; sealed.len()];
        let length = self.0.read_message(number, sealed, &mut message);
        message.truncate(length.map_err(|_| NoiseError::Forged)?);
        Ok(message)
    }
}

fn builder(key: &Key) -> Result<Builder<'_>, NoiseError> {
    let pattern = PATTERN.parse().map_err(|_| NoiseError::Unavailable)?;
    let builder = Builder::new(pattern).psk(0, &key.0).and_then(|it| it.prologue(&PREFACE));
    builder.map_err(|_| NoiseError::Unavailable)
}

fn write(state: &mut HandshakeState) -> Result<Vec<u8>, NoiseError> {
    let mut message = vec![0; HANDSHAKE];
    let length = state.write_message(&[], &mut message).map_err(|_| NoiseError::Unavailable)?;
    message.truncate(length);
    Ok(message)
}

fn read(state: &mut HandshakeState, message: &[u8]) -> Result<(), NoiseError> {
    if message.len() != HANDSHAKE {
        return Err(NoiseError::Length);
    }
    state.read_message(message, &mut [0; HANDSHAKE]).map(drop).map_err(|_| NoiseError::Key)
}

fn length_of(message: &[u8]) -> [u8; 2] {
    // Of the handshake: never longer.
    u16::try_from(message.len()).unwrap_or(u16::MAX).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(dials: &Key, accepts: &[Key]) -> Result<(Cipher, Cipher), NoiseError> {
        let (dialing, first) = Dialing::start(dials)?;
        assert_eq!(first.len(), PREFACE.len() + 2 + HANDSHAKE);
        let (theirs, answer, _) = accept(accepts, &first[6..])?;
        Ok((dialing.finish(&answer[2..])?, theirs))
    }

    const ONE: Key = Key([7; 32]);
    const OTHER: Key = Key([8; 32]);

    #[test]
    fn both_directions_are_read_as_they_were_written() {
        let (dials, accepts) = pair(&ONE, &[ONE]).unwrap();
        for (number, length) in [(0, 0), (1, 1), (2, 65_519)] {
            let message = vec![5; length];
            for (from, to) in [(&dials, &accepts), (&accepts, &dials)] {
                let sealed = from.seal(number, &message).unwrap();
                assert_eq!(to.open(number, &sealed[2..]).unwrap(), message);
            }
        }
        assert_eq!(dials.seal(3, &vec![0; 65_520]), Err(NoiseError::Unavailable));
    }

    #[test]
    fn another_key_is_refused_and_either_of_two_accepted() {
        assert!(matches!(pair(&ONE, &[OTHER]), Err(NoiseError::Key)));
        assert!(pair(&ONE, &[OTHER, ONE]).is_ok());
        assert!(pair(&OTHER, &[OTHER, ONE]).is_ok());
        let (_, first) = Dialing::start(&ONE).unwrap();
        for message in [&first[6..20], &[0; 49][..], &[]] {
            assert!(matches!(accept(&[ONE], message), Err(NoiseError::Length)));
        }
    }

    #[test]
    fn what_is_replayed_forged_or_of_another_connection_is_refused() {
        let (dials, accepts) = pair(&ONE, &[ONE]).unwrap();
        let sealed = dials.seal(0, b"hello").unwrap();
        assert_eq!(accepts.open(1, &sealed[2..]), Err(NoiseError::Forged));
        let mut forged = sealed.clone();
        forged[4] ^= 1;
        assert_eq!(accepts.open(0, &forged[2..]), Err(NoiseError::Forged));
        assert_eq!(accepts.open(0, &sealed[2..9]), Err(NoiseError::Forged));
        let (_, others) = pair(&ONE, &[ONE]).unwrap();
        assert_eq!(others.open(0, &sealed[2..]), Err(NoiseError::Forged));

        // A handshake can be replayed, but nothing behind it.
        let (_, first) = Dialing::start(&ONE).unwrap();
        let (one, _, _) = accept(&[ONE], &first[6..]).unwrap();
        let (replayed, _, _) = accept(&[ONE], &first[6..]).unwrap();
        let hello = one.seal(0, b"hello").unwrap();
        assert_eq!(replayed.open(0, &hello[2..]), Err(NoiseError::Forged));
    }
}
