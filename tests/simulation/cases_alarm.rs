//! The alarm itself: faults planted between the gateway and one client, each of which the oracle must find.

use super::client::Tamper;
use super::random::run;

/// Of ten seeds, how many raise the alarm with `tamper`.
fn alarms(tamper: impl Fn(u64) -> Tamper) -> usize {
    (0..10).filter(|seed| run(*seed, false, Some(tamper(*seed))).is_err()).count()
}

#[test]
fn without_a_fault_no_alarm() {
    assert_eq!(alarms(|_| Tamper::Drop(usize::MAX)), 0);
}

#[test]
fn a_lost_message_is_found() {
    assert!(alarms(|seed| Tamper::Drop(1 + seed as usize % 3)) >= 9);
}

#[test]
fn a_message_that_comes_twice_is_found() {
    assert!(alarms(|seed| Tamper::Duplicate(seed as usize % 3)) >= 9);
}

#[test]
fn messages_that_change_places_are_found() {
    assert!(alarms(|seed| Tamper::Swap(seed as usize % 3)) >= 9);
}

#[test]
fn a_wrong_byte_is_found() {
    assert!(alarms(|seed| Tamper::Corrupt(2 + 7 * seed as usize)) >= 9);
}
