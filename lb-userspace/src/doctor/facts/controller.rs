//! What a running controller says of itself. I/O.

use std::path::Path;
use std::time::Duration;

use tokio::time::timeout;

use crate::admin::client::{Client, Unreachable};
use crate::admin::model::{EffectiveConfig, Status};

/// One that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(2);

/// What answers at the admin socket.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Controller {
    /// Nobody, or nobody that this user may ask: why.
    #[default]
    Unasked,
    Absent(String),
    /// Somebody who makes no sense, or takes too long.
    Broken(String),
    Running(Box<Running>),
}

/// A controller's answers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Running {
    pub status: Status,
    pub config: EffectiveConfig,
}

impl Controller {
    pub fn running(&self) -> Option<&Running> {
        match self {
            Self::Running(running) => Some(running),
            Self::Unasked | Self::Absent(_) | Self::Broken(_) => None,
        }
    }

    pub(super) async fn read(socket: &Path) -> Self {
        let client = Client::new(socket);
        let answers = async {
            let status = client.status().await?;
            let config = client.config().await?;
            let status = serde_json::from_value(status)?;
            anyhow::Ok(Running { status, config })
        };
        match timeout(PATIENCE, answers).await {
            Ok(Ok(running)) => Self::Running(Box::new(running)),
            Ok(Err(error)) if error.downcast_ref::<Unreachable>().is_some() => {
                Self::Absent(error.to_string())
            }
            Ok(Err(error)) => Self::Broken(format!("{error:#}")),
            Err(_) => Self::Broken(format!("no answer within {} s", PATIENCE.as_secs())),
        }
    }
}
