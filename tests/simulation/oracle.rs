//! Holds what every client saw against the ledger: order, holes, duplicates, ends, counters.
//!
//! Every check gives the first thing that is wrong in words. A hole is excused only by the client's own messages,
//! or on a `skip` channel for a reader that was further behind than the limit.

use std::ops::Range;

use tidegate::config::LagPolicy;
use tidegate::model::CloseReason;

use super::client::{Client, End, Reader};
use super::ledger::{ChannelLog, Ledger};
use super::world::World;

/// Messages that a client misses, of the `skip` policy.
fn check_channel(ledger: &Ledger, client: &Client, channel: usize) -> Result<u64, String> {
    let log = &ledger.channels[channel];
    let Some(joined) = &client.joined else { return Ok(0) };
    let due_from = joined.accepted.get(channel).copied().unwrap_or(0);
    let mut skipped = 0;
    let mut last: Option<usize> = None;
    for id in &client.received[channel] {
        let place = log.place_of(*id).ok_or_else(|| format!("{id:?} was never accepted"))?;
        if ledger.is_from(*id, client.number) {
            return Err(format!("got back its own {id:?}"));
        }
        if let Some(last) = last
            && place <= last
        {
            return Err(format!("{id:?} of place {place} came after place {last}"));
        }
        let hole = last.map_or(0, |last| last + 1)..place;
        skipped += check_hole(ledger, client, log, hole, last.is_none(), due_from)?;
        last = Some(place);
    }
    if client.is_open() && client.reader != Reader::Dead {
        let hole = last.map_or(0, |last| last + 1)..log.order.len();
        skipped += check_hole(ledger, client, log, hole, last.is_none(), due_from)?;
    }
    Ok(skipped)
}

fn check_hole(
    ledger: &Ledger,
    client: &Client,
    log: &ChannelLog,
    hole: Range<usize>,
    is_first: bool,
    due_from: usize,
) -> Result<u64, String> {
    let step = client.joined.as_ref().map_or(0, |joined| joined.step);
    let is_due = |place: &usize| {
        let id = log.order[*place];
        let is_after_join = match is_first {
            true if log.settings.relay => ledger.sent.get(&id).is_some_and(|sent| sent.step > step),
            true => *place >= due_from,
            false => true,
        };
        is_after_join && !ledger.is_from(id, client.number)
    };
    let Some(first_missed) = hole.clone().find(is_due) else { return Ok(0) };
    let missed = hole.clone().filter(is_due).count() as u64;
    let bytes: u64 =
        hole.clone().filter_map(|place| ledger.sent.get(&log.order[place])).map(|s| s.frame_bytes).sum();
    let is_excused = log.settings.on_lag == LagPolicy::Skip
        && client.reader != Reader::Healthy
        && (bytes > log.settings.max_lag_bytes || missed > 0 && is_old(ledger, log, first_missed));
    if is_excused {
        return Ok(missed);
    }
    Err(format!(
        "{}: {missed} messages lost from place {first_missed} ({:?}) in {hole:?} of {}, {bytes} bytes, joined at {due_from}",
        log.name.as_str(),
        log.order[first_missed],
        log.order.len(),
    ))
}

fn is_old(ledger: &Ledger, log: &ChannelLog, place: usize) -> bool {
    let newest = ledger.sent.values().map(|sent| sent.at).max();
    match (ledger.sent.get(&log.order[place]), newest) {
        (Some(sent), Some(newest)) => newest.since(sent.at) > log.settings.max_lag_age,
        _ => false,
    }
}

/// Whether a close as slow consumer had a cause: bytes behind, age, or a socket that stood still for long.
fn check_slow_consumer(world: &World, client: &Client) -> Result<(), String> {
    if client.reader == Reader::Healthy {
        return Err("a healthy reader was closed as slow consumer".to_owned());
    }
    let Some((at, accepted)) = &client.seen_end else { return Ok(()) };
    for channel in &client.channels {
        let log = &world.ledger.channels[*channel];
        let last = client.received[*channel].last().and_then(|id| log.place_of(*id));
        let from = last.map_or_else(
            // It joined between its connect and its 101, nobody knows when.
            || client.connected.get(*channel).copied().unwrap_or(0),
            |last| last + 1,
        );
        // A witness may have been told later: then everything sent by that moment counts.
        let end = if log.settings.relay { log.order.len() } else { accepted[*channel] };
        let waiting = log.order.get(from..end.max(from)).unwrap_or_default();
        let sent = || waiting.iter().filter_map(|id| world.ledger.sent.get(id)).filter(|sent| sent.at <= *at);
        let bytes: u64 = sent().map(|sent| sent.frame_bytes).sum();
        let is_late = sent().any(|sent| at.since(sent.at) > log.settings.max_lag_age);
        let stalled = at.since(world.started) >= log.settings.max_lag_age;
        if bytes > log.settings.max_lag_bytes || is_late || stalled {
            return Ok(());
        }
    }
    Err("closed as slow consumer within every limit".to_owned())
}

fn check_end(world: &World, client: &Client) -> Result<(), String> {
    if let Some((code, reason)) = &client.close {
        let is_expected = match code {
            1000 => client.has_left,
            1008 | 4102 => client.has_misbehaved,
            1012 => world.is_draining && reason.starts_with("draining;in="),
            4101 => return check_slow_consumer(world, client),
            4105 => client.reader != Reader::Healthy || !client.answers_pings,
            _ => false,
        };
        return if is_expected { Ok(()) } else { Err(format!("closed with {code} {reason:?}")) };
    }
    let is_explained = match client.end {
        None | Some(End::Left) => true,
        Some(End::ByGateway(_)) => {
            client.has_left || client.has_misbehaved || client.reader != Reader::Healthy || world.ends_freely
        }
    };
    if is_explained { Ok(()) } else { Err(format!("ended without a word: {:?}", client.end)) }
}

fn check_pongs(client: &Client) -> Result<(), String> {
    let mut sent = client.pings_sent.iter();
    for pong in &client.pongs {
        if !sent.any(|ping| ping == pong) {
            return Err(format!("a pong out of nowhere or out of order: {pong:?}"));
        }
    }
    if client.is_open() && client.reader != Reader::Dead && client.pongs.last() != client.pings_sent.last() {
        return Err(format!("the last of {} pings was not answered", client.pings_sent.len()));
    }
    Ok(())
}

/// Everything that must hold once all has drained and the lasting clients are still there.
pub fn check_delivery(world: &World) -> Result<(), String> {
    if let Some(fault) = &world.ledger.fault {
        return Err(fault.clone());
    }
    world.ledger.check_positions()?;
    world.ledger.check_publishers()?;
    let mut skipped = 0;
    for client in &world.clients {
        let about =
            |fault| format!("client {} ({:?}, {:?}): {fault}", client.number, client.reader, client.end);
        for channel in &client.channels {
            skipped += check_channel(&world.ledger, client, *channel).map_err(about)?;
        }
        check_end(world, client).map_err(about)?;
        check_pongs(client).map_err(about)?;
        if client.is_open() {
            let log = &world.ledger.channels[client.channels[0]];
            if let Some(lost) = client.relayed.iter().find(|id| log.place_of(**id).is_none()) {
                return Err(about(format!("its message {lost:?} was lost")));
            }
        }
    }
    let counted = world.total(|counters| counters.skipped.get());
    if skipped > counted {
        return Err(format!("{skipped} messages were skipped, {counted} are accounted for"));
    }
    Ok(())
}

/// Everything that must hold once everybody is gone and history has run out.
pub fn check_empty(world: &mut World) -> Result<(), String> {
    let seen: usize = world.clients.iter_mut().map(|client| client.messages + client.unread_messages()).sum();
    let delivered = world.total(|counters| counters.delivered.get());
    if delivered != seen as u64 {
        return Err(format!("{delivered} deliveries counted, {seen} messages handed over"));
    }
    let relayed = world.clients.iter().map(|client| client.relayed.len()).sum::<usize>() as u64;
    let stepped_over = world.total(|counters| counters.stepped_over.get());
    if stepped_over > relayed {
        return Err(format!("{stepped_over} own messages stepped over of {relayed}"));
    }
    // Less than nothing would show as nothing.
    let accounted = world.memory.hold(1000);
    for (name, value) in [
        ("connections", world.total(|counters| counters.connections.get())),
        ("pending", world.total(|counters| counters.pending.get())),
        ("open", world.total(|counters| counters.open.get())),
        ("subscriptions", world.total(|counters| counters.subscriptions.get())),
        ("lagging", world.total(|counters| counters.lagging.get())),
        ("outbox", world.total(|counters| counters.outbox.get())),
        ("journal_bytes", world.total(|counters| counters.journal_bytes.get())),
        ("accounted memory", world.memory.used().abs_diff(1000)),
        ("budget", world.budget.used() as u64),
        ("connection_count", world.shards.iter().map(|shard| shard.shard.connection_count() as u64).sum()),
        ("channel_count", world.shards.iter().map(|shard| shard.shard.channel_count() as u64).sum()),
        ("channels", world.total(|counters| counters.channels.get())),
    ] {
        if value != 0 {
            return Err(format!("{name} is {} when all are gone", value as i64));
        }
    }
    drop(accounted);
    let accepted = world.total(|counters| counters.accepted.get());
    let closed: u64 = CloseReason::ALL.iter().map(|reason| world.closed(*reason)).sum();
    // Who is refused at the limit is accepted, told so, and closed like everybody.
    if closed != accepted {
        return Err(format!("{accepted} accepted, {closed} closed"));
    }
    Ok(())
}
