//! What runs beside the store on the node that leads the range: who is online, what follows from
//! commands, and everything that is done at its time.

mod agenda;
mod chores;
mod effects;
mod mender;
mod moves;
mod online;
mod presence;
mod routes;
mod timer;
mod turns;

pub(crate) use agenda::{Agenda, Chore, Outcome};
pub(crate) use chores::Chores;
pub(crate) use effects::{Hub, Pushes, Reporting};
pub(crate) use mender::Mender;
pub(crate) use online::Online;
pub(crate) use presence::Presence;
pub(crate) use routes::{RouteEnd, Routes, Tenants};
pub(crate) use timer::Timer;
pub(crate) use turns::Turns;
