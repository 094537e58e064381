//! `/api/channels`, `/api/connections`: what is there, a page at a time; `/api/closed`: what was there last.
//!
//! A page costs a shard one bounded walk; pages are taken one after the other with a pause between them, whoever
//! asks, so that no reader of listings can slow the feed down (GUARANTEES J7). The cursor names shard and place, so that
//! a reader sees everything that lives for the whole walk, however much comes and goes meanwhile.

use std::time::Duration;

use axum::extract::Query;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use tokio::time::{Interval, interval};

use super::refusal::{Refusal, Refused};
use super::{Admin, publish, routes};
use crate::bus::{Answer, ChannelRow, ConnectionRow, Page, Question};
use crate::config::limits::PAGE_ROWS_MAX;
use crate::model::{Blame, Cause, End, ShardId, Time};

/// From the end of one page to the start of the next.
const PAGE_PAUSE: Duration = Duration::from_millis(50);

/// Lets one listing through at a time, with [`PAGE_PAUSE`] in between.
#[derive(Default)]
pub struct Pace(Mutex<Option<Interval>>);

impl Pace {
    async fn run<T>(&self, page: impl Future<Output = T>) -> T {
        let mut ticks = self.0.lock().await;
        // Made by the first page: an interval belongs to a runtime. Its first tick is at once.
        let ticks = ticks.get_or_insert_with(|| interval(PAGE_PAUSE));
        ticks.tick().await;
        let outcome = page.await;
        ticks.reset();
        outcome
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameters {
    after: Option<String>,
    limit: Option<String>,
}

impl Parameters {
    fn parse(query: Option<&str>) -> Result<Self, Refusal> {
        let uri = axum::http::Uri::builder().path_and_query(format!("/?{}", query.unwrap_or_default()));
        let uri = uri.build().map_err(|_| Refusal::BadQuery)?;
        Query::try_from_uri(&uri).map(|Query(parameters)| parameters).map_err(|_| Refusal::BadQuery)
    }

    /// Rows of the page: what was asked for, but at most [`PAGE_ROWS_MAX`].
    fn limit(&self) -> Result<usize, Refusal> {
        let Some(text) = &self.limit else { return Ok(PAGE_ROWS_MAX) };
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(Refusal::BadQuery);
        }
        match text.parse().unwrap_or(usize::MAX) {
            0 => Err(Refusal::BadQuery),
            limit => Ok(limit.min(PAGE_ROWS_MAX)),
        }
    }
}

/// Where a walk over all shards stands: the next place to look at, a connection's slot or a channel's index.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Cursor {
    shard: u16,
    place: u32,
}

impl Cursor {
    const START: Self = Self { shard: 0, place: 0 };

    /// Twelve hexadecimal digits, opaque to the reader.
    fn print(self) -> String {
        format!("{:04x}{:08x}", self.shard, self.place)
    }

    fn parse(text: &str, shards: usize) -> Option<Self> {
        if text.len() != 12 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let (shard, place) = text.split_at_checked(4)?;
        let shard = u16::from_str_radix(shard, 16).ok()?;
        let place = u32::from_str_radix(place, 16).ok()?;
        (usize::from(shard) < shards).then_some(Self { shard, place })
    }

    fn next_shard(self, shards: usize) -> Option<Self> {
        let shard = self.shard.checked_add(1)?;
        (usize::from(shard) < shards).then_some(Self { shard, place: 0 })
    }
}

#[derive(Serialize)]
struct ConnectionsPage {
    connections: Vec<ConnectionJson>,
    next: Option<String>,
}

#[derive(Serialize)]
struct ConnectionJson {
    id: String,
    peer: Option<String>,
    state: &'static str,
    channels: u32,
    lag_bytes: u64,
    silent_for_ms: u64,
}

#[derive(Serialize)]
struct ChannelsPage {
    channels: Vec<ChannelJson>,
    total: u64,
    next: Option<String>,
}

#[derive(Serialize)]
struct ChannelJson {
    channel: String,
    position: String,
    subscribers: u64,
    retained_messages: u64,
    retained_bytes: u64,
}

#[derive(Serialize)]
struct OneChannelJson {
    #[serde(flatten)]
    channel: ChannelJson,
    epoch: String,
}

#[derive(Serialize)]
struct ClosedPage {
    closed: Vec<EndJson>,
}

#[derive(Serialize)]
struct EndJson {
    event: &'static str,
    reason: &'static str,
    /// HTTP status or close code.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    code: Option<u16>,
    by: &'static str,
    id: Option<String>,
    peer: Option<String>,
    bytes_in: u64,
    bytes_out: u64,
    age_ms: u64,
    ago_ms: u64,
}

/// `GET /api/connections?after=&limit=`.
pub async fn connections(admin: &Admin, query: Option<&str>) -> Result<Response, Refused> {
    let (rows, next) = walk(
        admin,
        query,
        |answer| match answer {
            Answer::Connections(page) => Some(page),
            _ => None,
        },
        |from_slot, limit| Question::Connections { from_slot, limit },
    )
    .await?;
    let connections = rows.into_iter().map(ConnectionJson::from).collect();
    Ok(page(&ConnectionsPage { connections, next }))
}

/// `GET /api/channels?after=&limit=`. Each page is sorted by name.
pub async fn channels(admin: &Admin, query: Option<&str>) -> Result<Response, Refused> {
    let (mut rows, next) = walk(
        admin,
        query,
        |answer| match answer {
            Answer::Channels(page) => Some(page),
            _ => None,
        },
        |from_place, limit| Question::Channels { from_place, limit },
    )
    .await?;
    rows.sort_unstable_by(|one, other| one.channel.cmp(&other.channel));
    let homed = admin.shards.counters().iter().map(|shard| shard.channels_homed.get()).sum::<u64>();
    // The counters may be a turn behind the rows.
    let total = homed.max(rows.len() as u64);
    Ok(page(&ChannelsPage { channels: rows.into_iter().map(ChannelJson::from).collect(), total, next }))
}

/// `GET /api/channels/{channel}`: one channel, which costs its home one look.
pub async fn channel(admin: &Admin, name: &str) -> Result<Response, Refused> {
    let channel = publish::channel_in_path(name)?;
    let home = admin.publisher.home_of(&channel);
    let Some(Answer::Channel(row)) = admin.shards.ask(home, Question::Channel(channel)).await else {
        return Err(Refusal::ShardStuck.into());
    };
    let row = row.ok_or(Refusal::NoChannel)?;
    let epoch = format!("{:016x}", row.position.epoch.0);
    Ok(page(&OneChannelJson { channel: ChannelJson::from(*row), epoch }))
}

/// `GET /api/closed?limit=`: the last ends of all shards, newest first.
pub async fn closed(admin: &Admin, query: Option<&str>) -> Result<Response, Refused> {
    let parameters = Parameters::parse(query)?;
    if parameters.after.is_some() {
        return Err(Refusal::BadQuery.into());
    }
    let limit = parameters.limit()?;
    let answers = admin.pace.run(admin.shards.ask_all(Question::Ends { limit })).await;
    let mut ends: Vec<End> = Vec::new();
    for answer in answers {
        let Some(Answer::Ends(found)) = answer else { return Err(Refusal::ShardStuck.into()) };
        ends.extend(found);
    }
    ends.sort_by_key(|end| std::cmp::Reverse(end.at));
    ends.truncate(limit);
    let now = admin.clock.now();
    Ok(page(&ClosedPage { closed: ends.iter().map(|end| EndJson::of(end, now)).collect() }))
}

/// One page of a walk over all shards, of what `question` asks for, and the cursor of the next page.
async fn walk<T>(
    admin: &Admin,
    query: Option<&str>,
    page_of: fn(Answer) -> Option<Page<T>>,
    question: fn(u32, usize) -> Question,
) -> Result<(Vec<T>, Option<String>), Refused> {
    let parameters = Parameters::parse(query)?;
    let limit = parameters.limit()?;
    let start = match &parameters.after {
        Some(after) => Cursor::parse(after, admin.shards.count()).ok_or(Refusal::BadQuery)?,
        None => Cursor::START,
    };
    let page = admin.pace.run(async {
        let mut rows = Vec::new();
        let mut cursor = Some(start);
        while let Some(here) = cursor {
            if rows.len() >= limit {
                break;
            }
            let answer =
                admin.shards.ask(ShardId(here.shard), question(here.place, limit - rows.len())).await;
            let Page { rows: found, next } = answer.and_then(page_of).ok_or(Refusal::ShardStuck)?;
            rows.extend(found);
            // A shard that does not get on would be asked for ever.
            cursor = match next.filter(|place| *place > here.place) {
                Some(place) => Some(Cursor { place, ..here }),
                None => here.next_shard(admin.shards.count()),
            };
        }
        Ok::<_, Refusal>((rows, cursor.map(Cursor::print)))
    });
    Ok(page.await?)
}

#[expect(
    clippy::expect_used,
    reason = "fails for maps with odd keys and hand-written impls; rows derive theirs"
)]
fn page(page: &impl Serialize) -> Response {
    routes::json(serde_json::to_string(page).expect("rows are plain values"))
}

impl EndJson {
    fn of(end: &End, now: Time) -> Self {
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let (status, code) = match end.cause {
            Cause::Reject(reason) => (Some(reason.status()), None),
            Cause::Close(reason, _) => (None, reason.has_code().then(|| reason.code())),
        };
        Self {
            event: end.cause.event(),
            reason: end.cause.token(),
            status,
            code,
            by: if end.cause.blame() == Blame::Peer { "peer" } else { "us" },
            id: end.connection.map(|connection| connection.name_on(end.shard).to_string()),
            peer: end.peer.map(|peer| peer.to_string()),
            bytes_in: end.traffic.bytes_in,
            bytes_out: end.traffic.bytes_out,
            age_ms: millis(end.age()),
            ago_ms: millis(now.since(end.at)),
        }
    }
}

impl From<ConnectionRow> for ConnectionJson {
    fn from(row: ConnectionRow) -> Self {
        Self {
            id: row.id.name_on(row.shard).to_string(),
            peer: row.peer.map(|peer| peer.to_string()),
            state: row.state,
            channels: row.channels,
            lag_bytes: row.lag_bytes,
            silent_for_ms: row.silent_for_ms,
        }
    }
}

impl From<ChannelRow> for ChannelJson {
    fn from(row: ChannelRow) -> Self {
        Self {
            channel: row.channel.to_string(),
            position: row.position.to_string(),
            subscribers: row.subscribers,
            retained_messages: row.retained_messages,
            retained_bytes: row.retained_bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn limit(query: &str) -> Result<usize, Refusal> {
        Parameters::parse(Some(query)).and_then(|parameters| parameters.limit())
    }

    #[test]
    fn j7_limits_at_the_extremes_are_bounded_or_refused() {
        assert_eq!(limit(""), Ok(1000));
        for (text, expected) in [("1", 1), ("1000", 1000), ("1001", 1000), ("18446744073709551616", 1000)] {
            assert_eq!(limit(&format!("limit={text}")), Ok(expected), "{text}");
        }
        for bad in ["limit=0", "limit=-1", "limit=", "limit=1e3", "limit=%2B1", "limit=1&limit=2", "offset=1"]
        {
            assert_eq!(limit(bad), Err(Refusal::BadQuery), "{bad}");
        }
    }

    #[test]
    fn a_cursor_reads_back_and_never_leaves_the_shards() {
        let last = Cursor { shard: 3, place: u32::MAX };
        assert_eq!(Cursor::parse(&last.print(), 4), Some(last));
        assert_eq!(Cursor::parse(&last.print(), 3), None);
        assert_eq!(last.next_shard(4), None);
        assert_eq!(Cursor::START.next_shard(2), Some(Cursor { shard: 1, place: 0 }));
        assert_eq!(Cursor { shard: u16::MAX, place: 0 }.next_shard(usize::MAX), None);
        for bad in
            ["", "0", "00000000000", "0000000000000", "00000000000g", "+00000000000", "\u{e4}0000000000"]
        {
            assert_eq!(Cursor::parse(bad, 4), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn no_query_makes_the_parsers_panic(query in ".*") {
            let _ = limit(&query);
            let _ = Cursor::parse(&query, 2);
        }
    }
}
