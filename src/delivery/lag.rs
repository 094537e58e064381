//! Whether a subscriber that cannot take more is further behind than its channel allows, and what then.

use crate::config::LagPolicy;
use crate::model::{Offset, Time};

use super::feed::Feed;

/// What happens to a subscriber that was looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LagVerdict {
    /// Within bounds.
    Keep,
    /// Its cursor moves to `next`, past `missed` messages.
    Skip {
        /// Messages it does not get.
        missed: u64,
        /// Where it goes on.
        next: Offset,
    },
    /// It is closed with 4101 `slow_consumer`.
    Disconnect,
}

impl Feed {
    /// Judges a subscriber whose next message is `cursor`: by bytes behind, by the age of its oldest waiting
    /// message, and by whether retention has overtaken it. Constant time.
    pub fn judge(&self, cursor: Offset, now: Time) -> LagVerdict {
        if cursor >= self.journal.next() {
            return LagVerdict::Keep;
        }
        let is_too_far = self.journal.bytes_behind(cursor) > self.settings.max_lag_bytes;
        let is_too_old = match self.journal.entry(cursor) {
            Some(entry) => now.since(entry.accepted_at) > self.settings.max_lag_age,
            None => true,
        };
        if !is_too_far && !is_too_old {
            return LagVerdict::Keep;
        }
        match self.settings.on_lag {
            LagPolicy::Disconnect => LagVerdict::Disconnect,
            LagPolicy::Skip | LagPolicy::Conflate => {
                let next = self.journal.next();
                LagVerdict::Skip { missed: next.0 - cursor.0, next }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ChannelSettings;
    use crate::model::{ChannelName, Epoch, PayloadKind, Publication};
    use std::time::Duration;

    fn feed(on_lag: LagPolicy, max_lag_bytes: u64) -> Feed {
        let settings = ChannelSettings { on_lag, max_lag_bytes, ..ChannelSettings::default() };
        let mut feed = Feed::new(settings, Epoch(1), Offset(1));
        feed.on_join(Offset(1), 1);
        for offset in 1..=10 {
            let channel = ChannelName::parse("c").unwrap();
            let at = Time::from_millis(offset * 100);
            let publication = Publication::encode(channel, PayloadKind::Binary, &[0; 98], at, None);
            feed.append(Offset(offset), &publication, 1, at);
            feed.pass.next_member(1);
            feed.note_visits(1, Offset(1), false, 1, at);
            feed.end_round(1, at);
        }
        feed
    }

    #[test]
    fn bytes_age_and_being_overtaken_each_fire_the_policy() {
        let now = Time::from_millis(1000);
        let disconnect = feed(LagPolicy::Disconnect, 1000);
        assert_eq!(disconnect.judge(Offset(1), now), LagVerdict::Keep);
        assert_eq!(disconnect.judge(Offset(11), Time::NEVER), LagVerdict::Keep);
        assert_eq!(disconnect.judge(Offset(1), now.after(Duration::from_secs(10))), LagVerdict::Disconnect);
        let tight = feed(LagPolicy::Disconnect, 950);
        assert_eq!(tight.judge(Offset(1), now), LagVerdict::Disconnect);
        assert_eq!(tight.judge(Offset(2), now), LagVerdict::Keep);
        let skip = feed(LagPolicy::Skip, 350);
        assert_eq!(skip.judge(Offset(1), now), LagVerdict::Skip { missed: 10, next: Offset(11) });
        assert_eq!(skip.journal.first(), Offset(8), "the bound is strict");
    }
}
