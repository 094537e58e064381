//! The order in which a channel's members are visited: round and round, everyone once after each new message.
//!
//! The place in the ring is kept from pass to pass and moved on by a golden-ratio stride when a pass begins, so that
//! nobody is always last. A message that arrives during a pass makes it go once round from where it stands: those
//! still to come get both messages in one write.

use crate::model::{Offset, Time};

/// Where the visit of one channel's members stands. `members` is always their present number.
#[derive(Debug)]
pub struct Pass {
    next: u32,
    remaining: u32,
    /// Members that a leave moved out of the part still to come: visited before the pass goes on.
    jumped: Vec<u32>,
    is_visiting_jumped: bool,
    circle_left: u32,
    circle_min: Offset,
    began_at: Time,
}

impl Default for Pass {
    fn default() -> Self {
        Self {
            next: 0,
            remaining: 0,
            jumped: Vec::new(),
            is_visiting_jumped: false,
            circle_left: 0,
            circle_min: Offset(u64::MAX),
            began_at: Time::ZERO,
        }
    }
}

impl Pass {
    /// Whether nobody is left to visit.
    pub fn is_over(&self) -> bool {
        self.remaining == 0 && self.jumped.is_empty()
    }

    /// When the present pass, or the last one, began.
    pub fn began_at(&self) -> Time {
        self.began_at
    }

    /// There is news: everyone is to be visited from here on.
    pub fn restart(&mut self, members: u32, now: Time) {
        if self.is_over() {
            self.began_at = now;
            let stride = (u64::from(members) * 618 / 1000) as u32 + 1;
            self.next = (self.next + stride) % members.max(1);
            // A circle that was under way would see some members twice and others not at all.
            self.restart_circle(members);
        }
        self.jumped.clear();
        self.remaining = members;
    }

    /// The index of the next member to visit; `None` when the pass is over.
    pub fn next_member(&mut self, members: u32) -> Option<u32> {
        if let Some(index) = self.jumped.pop() {
            self.is_visiting_jumped = true;
            return Some(index);
        }
        self.is_visiting_jumped = false;
        if self.remaining == 0 || members == 0 {
            self.remaining = 0;
            return None;
        }
        let index = if self.next < members { self.next } else { 0 };
        self.next = index + 1;
        self.remaining -= 1;
        Some(index)
    }

    /// Whether the member that [`Pass::next_member`] gave last was visited out of its turn: note it before the next.
    pub fn is_out_of_turn(&self) -> bool {
        self.is_visiting_jumped
    }

    /// Notes the cursor that `count` visited members have now, [`Pass::left_in_circle`] at most. At the end of a full
    /// circle gives the least of all noted in it: no member is behind that.
    pub fn note_cursors(&mut self, count: u32, cursor: Offset, members: u32) -> Option<Offset> {
        if self.is_visiting_jumped {
            // Out of its turn: the circle will come by.
            return None;
        }
        if self.circle_left == 0 {
            self.restart_circle(members);
        }
        self.circle_min = self.circle_min.min(cursor);
        debug_assert!(count <= self.circle_left, "who is visited together ends in one circle");
        self.circle_left = self.circle_left.saturating_sub(count);
        (self.circle_left == 0).then(|| std::mem::replace(&mut self.circle_min, Offset(u64::MAX)))
    }

    /// Members still to be noted before this circle is full. Up to that many may be visited and noted in another order
    /// than the ring's: beyond, one would count in the wrong circle, and its cursor in none.
    pub fn left_in_circle(&self, members: u32) -> u32 {
        if self.circle_left == 0 { members.max(1) } else { self.circle_left }
    }

    /// A member was added at the end of the ring; `members` counts it.
    pub fn on_join(&mut self, members: u32) {
        if self.remaining > 0 {
            self.remaining = (self.remaining + 1).min(members);
        }
        self.restart_circle(members);
    }

    /// The member at `left` was taken out and the last one put in its place; `members` are left. If that moved one
    /// was still to be visited and its new place is behind, it is visited next.
    pub fn on_leave(&mut self, left: u32, members: u32) {
        let last = members;
        let is_last_to_come = self.is_to_come(last, members + 1);
        let was_jumped = self.jumped.contains(&last);
        self.jumped.retain(|jumped| *jumped != left && *jumped != last);
        if left != last && (is_last_to_come || was_jumped) && !self.is_to_come(left, members + 1) {
            self.jumped.push(left);
        }
        self.remaining = (self.remaining - u32::from(is_last_to_come)).min(members);
        if self.next > last {
            self.next = 0;
        }
        self.restart_circle(members);
    }

    /// Whether the ring of `members` will come to `index` in this pass.
    fn is_to_come(&self, index: u32, members: u32) -> bool {
        let next = if self.next < members { self.next } else { 0 };
        (index + members - next) % members < self.remaining
    }

    /// A circle begins with the next member: some of those visited together have left, and the others were noted in an
    /// order of their own.
    pub fn restart_circle(&mut self, members: u32) {
        self.circle_left = members.max(1);
        self.circle_min = Offset(u64::MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::SmallRng;
    use rand::seq::SliceRandom;
    use rand::{Rng, SeedableRng};

    fn visit_all(pass: &mut Pass, members: u32) -> Vec<u32> {
        std::iter::from_fn(|| pass.next_member(members)).collect()
    }

    #[test]
    fn a_pass_visits_everyone_once_and_the_next_one_begins_elsewhere() {
        let mut pass = Pass::default();
        pass.restart(10, Time::ZERO);
        let first = visit_all(&mut pass, 10);
        pass.restart(10, Time::ZERO);
        let second = visit_all(&mut pass, 10);
        assert_ne!(first.last(), second.last());
        for mut visited in [first, second] {
            visited.sort_unstable();
            assert_eq!(visited, (0..10).collect::<Vec<_>>());
        }
    }

    #[test]
    fn news_in_the_middle_goes_once_round_from_there() {
        let mut pass = Pass::default();
        pass.restart(4, Time::ZERO);
        let first = pass.next_member(4).unwrap();
        pass.restart(4, Time::ZERO);
        let rest = visit_all(&mut pass, 4);
        assert_eq!(rest.len(), 4);
        assert_eq!(rest.last(), Some(&first));
    }

    #[test]
    fn a_full_circle_gives_the_least_cursor() {
        let mut pass = Pass::default();
        assert_eq!(pass.note_cursors(1, Offset(7), 3), None);
        assert_eq!(pass.note_cursors(1, Offset(5), 3), None);
        assert_eq!(pass.note_cursors(1, Offset(9), 3), Some(Offset(5)));
        assert_eq!(pass.note_cursors(1, Offset(8), 2), None);
        pass.on_leave(0, 1);
        assert_eq!(pass.note_cursors(1, Offset(9), 1), Some(Offset(9)));
    }

    #[test]
    fn a_circle_sees_every_member_however_passes_begin() {
        let cursors = [9, 9, 9, 5, 9].map(Offset);
        let mut pass = Pass::default();
        for round in 0..100 {
            pass.restart(5, Time::ZERO);
            for _ in 0..round % 7 {
                let Some(index) = pass.next_member(5) else { break };
                let least = pass.note_cursors(1, cursors[index as usize], 5);
                assert!(least.is_none_or(|least| least == Offset(5)), "round {round}");
            }
        }
    }

    /// Who is furthest behind is in every circle, however those visited together are noted.
    #[test]
    fn a_circle_sees_every_member_in_whichever_order_batches_are_noted() {
        let cursors = [9, 9, 9, 5, 9, 9, 9].map(Offset);
        let members = cursors.len() as u32;
        for seed in 0..200 {
            let mut random = SmallRng::seed_from_u64(seed);
            let mut pass = Pass::default();
            let mut circles = 0;
            for _ in 0..100 {
                pass.restart(members, Time::ZERO);
                let most = random.random_range(1..5).min(pass.left_in_circle(members));
                let mut batch: Vec<u32> = (0..most).map_while(|_| pass.next_member(members)).collect();
                batch.shuffle(&mut random);
                for index in batch {
                    let least = pass.note_cursors(1, cursors[index as usize], members);
                    assert!(least.is_none_or(|least| least == Offset(5)), "seed {seed}: {least:?}");
                    circles += usize::from(least.is_some());
                }
            }
            assert!(circles > 5, "seed {seed}");
        }
    }

    /// Members come and go during passes: by the end of each everyone has seen every message.
    #[test]
    fn nobody_is_left_out_however_members_come_and_go() {
        for seed in 0..200 {
            let mut random = SmallRng::seed_from_u64(seed);
            let mut pass = Pass::default();
            let mut seen: Vec<u64> = vec![0; 5];
            let mut head = 0_u64;
            for _ in 0..400 {
                match random.random_range(0..10) {
                    0 => {
                        head += 1;
                        pass.restart(seen.len() as u32, Time::ZERO);
                    }
                    1 => {
                        seen.push(head);
                        pass.on_join(seen.len() as u32);
                    }
                    2 if seen.len() > 1 => {
                        let gone = random.random_range(0..seen.len());
                        seen.swap_remove(gone);
                        pass.on_leave(gone as u32, seen.len() as u32);
                    }
                    _ => {
                        if let Some(index) = pass.next_member(seen.len() as u32) {
                            seen[index as usize] = head;
                        }
                    }
                }
            }
            while let Some(index) = pass.next_member(seen.len() as u32) {
                seen[index as usize] = head;
            }
            assert!(seen.iter().all(|seen| *seen == head), "seed {seed}: {seen:?} of {head}");
        }
    }
}
