//! What the admin side counts about itself: requests by route, refusals by reason. Written by the control thread.

use super::refusal::Refusal;
use super::routes::Route;
use crate::metrics::counters::Counter;
use crate::metrics::exposition::AdminFigures;

/// One counter for each member of the two closed lists.
pub struct AdminCounters {
    requests: Vec<Counter>,
    refused: Vec<Counter>,
}

impl Default for AdminCounters {
    fn default() -> Self {
        let row = |length| (0..length).map(|_| Counter::default()).collect();
        Self { requests: row(Route::ALL.len()), refused: row(Refusal::ALL.len()) }
    }
}

impl AdminCounters {
    /// Counts a request for `route`.
    pub fn count_request(&self, route: Route) {
        if let Some(counter) = self.requests.get(route.index()) {
            counter.add(1);
        }
    }

    /// Counts a refused request, or a refused message of a batch.
    pub fn count_refusal(&self, refusal: Refusal) {
        if let Some(counter) = self.refused.get(refusal.index()) {
            counter.add(1);
        }
    }

    /// All of it.
    pub fn figures(&self) -> AdminFigures {
        let routes = Route::ALL.iter().zip(&self.requests);
        let routes = routes.map(|(route, counter)| (route.label(), counter.get()));
        let refused = Refusal::ALL.iter().zip(&self.refused);
        let refused = refused.map(|(refusal, counter)| (refusal.token(), refusal.status(), counter.get()));
        AdminFigures { requests: routes.collect(), refused: refused.collect(), ..AdminFigures::default() }
    }
}
