//! Codes with which connections are closed; SPEC.md has them.

use quinn::VarInt;

/// The engine stops.
pub(crate) const DRAINING: VarInt = VarInt::from_u32(1);
/// The certificate speaks for nobody.
pub(crate) const NOBODY: VarInt = VarInt::from_u32(2);
/// The certificate was revoked.
pub(crate) const REVOKED: VarInt = VarInt::from_u32(3);
/// The certificate has expired.
pub(crate) const EXPIRED: VarInt = VarInt::from_u32(4);
/// The certificate is believed no more: its authority is gone from the configuration.
pub(crate) const DISTRUSTED: VarInt = VarInt::from_u32(5);
