//! Clients that are wanted on another server, and the end of all when this one stops.

use bifrust_plugin_api::Redirect;

use super::Shard;
use super::timer::STEP_MS;
use crate::connection::Ending;
use crate::mailbox::Seat;

impl Shard {
    /// Asks for some clients at each tick whether they should be elsewhere; for all of them
    /// within the time configured, so that those who leave do not leave at once.
    pub(super) fn follow_balancer(&mut self) {
        let within = self.edge.config.redirect_check.as_millis();
        let within = usize::try_from(within).unwrap_or(usize::MAX).max(1);
        let slots = self.connections.capacity();
        let count = (slots.saturating_mul(STEP_MS as usize) / within + 1).min(slots);
        for _ in 0..count {
            self.balanced = (self.balanced + 1) % slots;
            let seat = u32::try_from(self.balanced)
                .ok()
                .and_then(|slot| self.seat(slot));
            if let Some(seat) = seat
                && let Some(redirect) = self.redirect(seat)
            {
                self.read_last(seat);
                self.end(seat, Ending::redirected(&redirect));
            }
        }
    }

    fn redirect(&mut self, seat: Seat) -> Option<Redirect> {
        let client = self.session(seat)?.client.clone();
        self.edge.services.balancer.redirect(&client)
    }

    /// Ends everybody, each with the server to go to if there is one.
    pub(super) fn stop_all(&mut self) {
        self.is_stopping = true;
        for seat in self.seats() {
            self.read_last(seat);
            let ending = match self.redirect(seat) {
                Some(redirect) => Ending::redirected(&redirect).for_stop(),
                None => Ending::stopping(),
            };
            self.end(seat, ending);
        }
    }
}
