//! What GPUs draw, from what they execute.
//!
//! ```text
//! StepShape ──work──► operations, bytes ──÷ time──► Activity ──law──► watts ──limiter──► watts ──meter──► readings, energy
//! ```
//!
//! [`work`] counts what a step executes, exactly. [`law`] turns achieved rates into watts, [`clock`] says what slower clocks do to
//! both, [`limiter`] how late a device keeps a limit, [`sustained`] at which clock it does, and [`meter`] what a driver reports of it all. [`simple`] has the laws of
//! others, to compare with. Everything here is pure: nothing knows a fleet.

pub mod clock;
pub mod curve;
pub mod excursions;
pub mod figures;
pub mod law;
pub mod limiter;
pub mod meter;
pub mod policies;
pub mod protection;
pub mod row;
pub mod server;
pub mod share;
pub mod simple;
pub mod sustained;
pub mod work;

pub use law::{Activity, PowerError, PowerLaw};
pub use meter::{Energy, Meter, MilliWatts};
pub use work::{DecodeWork, StepWork, Work};
