//! Whether a subscriber that cannot take more is further behind than its channel allows, and what then.

use crate::config::LagPolicy;
use crate::journal::{Cursor, Pace};
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
    /// From here on it leaves out what is superseded.
    Conflate,
    /// It is closed with 4101 `slow_consumer`.
    Disconnect,
}

impl Feed {
    /// Judges a subscriber at `cursor` whose socket takes nothing, and that needs the journal from `needed_from` on: by
    /// bytes behind, by the age of its oldest waiting message, and by whether retention has overtaken it. Constant time.
    pub fn judge(&self, cursor: Cursor, needed_from: Offset, now: Time) -> LagVerdict {
        let next = self.journal.next();
        if cursor.is_parked() || needed_from >= next || cursor.pace().is_patient() {
            return LagVerdict::Keep;
        }
        if cursor.pace() == Pace::Snapshot && self.settings.on_lag != LagPolicy::Disconnect {
            // First the state, whole; then what comes after it is judged.
            return LagVerdict::Keep;
        }
        let bytes_behind = self.journal.bytes_behind(needed_from);
        let is_overtaken = needed_from < self.journal.first();
        if self.settings.on_lag == LagPolicy::Conflate {
            let conflates = bytes_behind > self.settings.conflate_enter || is_overtaken;
            let is_caught_up = cursor.pace() == Pace::Every;
            return if conflates && (is_caught_up || is_overtaken) {
                LagVerdict::Conflate
            } else {
                LagVerdict::Keep
            };
        }
        // Who is given what it missed is as far behind as it was when it came.
        let is_too_late = cursor.pace() != Pace::Replay
            && (bytes_behind > self.settings.max_lag_bytes
                || self
                    .journal
                    .entry(needed_from)
                    .is_some_and(|entry| now.since(entry.accepted_at) > self.settings.max_lag_age));
        if !is_too_late && !is_overtaken {
            return LagVerdict::Keep;
        }
        match self.settings.on_lag {
            LagPolicy::Disconnect => LagVerdict::Disconnect,
            LagPolicy::Skip | LagPolicy::Conflate => {
                LagVerdict::Skip { missed: next.0 - needed_from.0, next }
            }
        }
    }

    /// Whether nothing would befall a subscriber whose socket takes nothing and that needs the journal from `needed_from` on,
    /// at whatever pace it reads: every pace is at least as lenient as that of every message. Constant time.
    pub fn may_wait_at(&self, needed_from: Offset, now: Time) -> bool {
        self.judge(Cursor::plain(needed_from), needed_from, now) == LagVerdict::Keep
    }

    /// The pace of a subscriber at `cursor` whose socket took everything it was given: who has come near enough to the head
    /// is given every message again.
    pub fn pace_at(&self, cursor: Cursor) -> Pace {
        let is_near = || self.journal.bytes_behind(cursor.offset()) <= self.settings.conflate_leave;
        match cursor.pace() {
            Pace::Newest if cursor.offset() >= self.journal.first() && is_near() => Pace::Every,
            pace => pace,
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
    fn who_may_wait_at_the_strictest_pace_may_at_every_other() {
        let paces = [Pace::Every, Pace::Newest, Pace::Snapshot, Pace::Replay, Pace::Sampled];
        let (mut may, mut may_not) = (0, 0);
        for on_lag in [LagPolicy::Disconnect, LagPolicy::Skip, LagPolicy::Conflate] {
            for max_lag_bytes in [300, 100_000] {
                let mut feed = feed(on_lag, max_lag_bytes);
                feed.settings.conflate_enter = max_lag_bytes;
                for (offset, seconds) in (1..=11).flat_map(|offset| [(offset, 1), (offset, 30)]) {
                    let now = Time::ZERO.after(Duration::from_secs(seconds));
                    if !feed.may_wait_at(Offset(offset), now) {
                        may_not += 1;
                        continue;
                    }
                    may += 1;
                    for pace in paces {
                        let cursor = Cursor::plain(Offset(offset)).at_pace(pace);
                        let verdict = feed.judge(cursor, Offset(offset), now);
                        assert_eq!(verdict, LagVerdict::Keep, "{on_lag:?} {pace:?} {offset} {seconds}");
                    }
                }
            }
        }
        assert!(may > 20 && may_not > 20, "{may} and {may_not}");
    }

    #[test]
    fn bytes_age_and_being_overtaken_each_fire_the_policy() {
        let now = Time::from_millis(1000);
        let disconnect = feed(LagPolicy::Disconnect, 1000);
        assert_eq!(disconnect.judge(Cursor::plain(Offset(1)), Offset(1), now), LagVerdict::Keep);
        assert_eq!(disconnect.judge(Cursor::plain(Offset(11)), Offset(11), Time::NEVER), LagVerdict::Keep);
        assert_eq!(
            disconnect.judge(Cursor::plain(Offset(1)), Offset(1), now.after(Duration::from_secs(10))),
            LagVerdict::Disconnect
        );
        let tight = feed(LagPolicy::Disconnect, 950);
        assert_eq!(tight.judge(Cursor::plain(Offset(1)), Offset(1), now), LagVerdict::Disconnect);
        assert_eq!(tight.judge(Cursor::plain(Offset(2)), Offset(2), now), LagVerdict::Keep);
        let skip = feed(LagPolicy::Skip, 350);
        assert_eq!(
            skip.judge(Cursor::plain(Offset(1)), Offset(1), now),
            LagVerdict::Skip { missed: 10, next: Offset(11) }
        );
        assert_eq!(skip.journal.first(), Offset(8), "the bound is strict");
    }

    #[test]
    fn a_snapshot_comes_whole_before_what_follows_it_is_judged() {
        let snapshot = Cursor::plain(Offset(1)).at_pace(Pace::Snapshot);
        for (on_lag, verdict) in [
            (LagPolicy::Skip, LagVerdict::Keep),
            (LagPolicy::Conflate, LagVerdict::Keep),
            (LagPolicy::Disconnect, LagVerdict::Disconnect),
        ] {
            let feed = feed(on_lag, 350);
            assert_eq!(feed.judge(snapshot, Offset(5), Time::from_millis(1000)), verdict, "{on_lag:?}");
        }
    }
}
