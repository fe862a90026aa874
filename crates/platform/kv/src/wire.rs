//! What a command looks like outside memory.

use bifrust_model::record::RecordError;
use bytes::Bytes;

/// Something with a versioned form in bytes: the version comes first (see `bifrust_model::record`).
pub trait Wire: Sized + Send + 'static {
    /// Its bytes.
    fn encode(&self) -> Bytes;

    /// What the bytes say; a newer version and damage are errors.
    fn decode(bytes: Bytes) -> Result<Self, RecordError>;
}
