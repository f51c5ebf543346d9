//! The commands that rank 0 sends to the other ranks.

use crate::error::{Error, Result};
use crate::train::Communicator;

/// What rank 0 asks the other ranks to do.
pub(super) enum RankCommand {
    /// Build the program of the run and load this checkpoint.
    Begin(Vec<u8>),
    /// Run steps of this number.
    Run(u64),
    /// Compare the fingerprint of the state with that of rank 0.
    Compare(String),
    /// End.
    End,
}

impl RankCommand {
    /// Sends the command of rank 0 to the other ranks.
    pub(super) fn send(self, ranks: &dyn Communicator) -> Result<()> {
        let mut message = Vec::new();
        match self {
            Self::Begin(checkpoint) => {
                message.push(b'b');
                message.extend(checkpoint);
            }
            Self::Run(steps) => {
                message.push(b'r');
                message.extend(steps.to_le_bytes());
            }
            Self::Compare(fingerprint) => {
                message.push(b'c');
                message.extend(fingerprint.into_bytes());
            }
            Self::End => message.push(b'e'),
        }
        ranks.broadcast(message).map(drop)
    }

    /// Waits for the next command.
    pub(super) fn receive(ranks: &dyn Communicator) -> Result<Self> {
        let message = ranks.broadcast(Vec::new())?;
        let unknown = || Error::Request {
            message: "rank 0 sent a command that this rank does not know".into(),
            hint: "start all ranks with the same version of gpu-gan".into(),
        };
        let (&kind, content) = message.split_first().ok_or_else(unknown)?;
        Ok(match kind {
            b'b' => Self::Begin(content.to_vec()),
            b'r' => Self::Run(u64::from_le_bytes(content.try_into().map_err(|_| unknown())?)),
            b'c' => Self::Compare(String::from_utf8_lossy(content).into_owned()),
            b'e' => Self::End,
            _ => return Err(unknown()),
        })
    }
}
