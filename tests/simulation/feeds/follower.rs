//! A client that notes all it is told, with the moments at which the gateway wrote it: plain, `tidegate.v1` or an event
//! stream. It checks nothing but the grammar; `judge.rs` reads its notes.

use std::collections::VecDeque;

use serde_json::Value;
use tidegate::model::{Epoch, Pattern, Position};

use super::super::ledger::{MessageId, identify};
use super::super::protocol::{self, Item, Stream};
use super::super::wire::WireRef;
use super::chunks::Chunks;
use super::truth::{Moment, Truth};

/// What it speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tongue {
    Plain,
    V1,
    /// An event stream of one channel.
    Events,
    /// An event stream with envelopes.
    Enveloped,
}

/// How it reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pace {
    /// Everything at once; its socket never refuses.
    Healthy,
    /// A few bytes now and then, through a small buffer.
    Slow,
    /// Not at all, for now.
    Stalled,
}

/// A channel that it asked for.
#[derive(Clone, Debug)]
pub struct Ask {
    pub channel: usize,
    pub since: Option<Position>,
    pub snapshot: bool,
    pub at: Moment,
    /// Head of each stream had arrived everywhere when it asked.
    pub is_settled: bool,
}

/// What a reply, a header or an event said of the begin of a subscription.
#[derive(Clone, Debug)]
pub struct Answer {
    pub position: Option<Position>,
    pub recovered: Option<bool>,
    pub replayed: Option<u64>,
    pub snapshot: Option<u64>,
}

/// Kinds of messages that are left out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Left {
    Conflated,
    Expired,
    Skipped,
}

/// Something that it was told.
#[derive(Clone, Debug)]
pub enum Word {
    /// It was joined to what it had asked for.
    Begun(Ask, Answer),
    /// A message: plain ones have no position, deletions no id.
    Message {
        channel: Option<usize>,
        position: Option<Position>,
        id: Option<MessageId>,
        key: Option<String>,
    },
    Notice {
        channel: usize,
        left: Left,
        count: u64,
        position: Option<Position>,
    },
    /// Where each of its channels stands.
    Ids(Vec<Option<Position>>),
    Unsubscribed(usize),
    /// It has this pattern, or has it no more.
    Followed(Following),
    Unfollowed(Pattern),
    /// It names a channel that a pattern of its matches and stands there, or names it no more.
    Named(usize, Position),
    Unnamed(usize),
}

/// A pattern that it asked for when nothing was under way, and when that was.
#[derive(Clone, Debug)]
pub struct Following {
    pub pattern: Pattern,
    pub asked: Moment,
}

/// A word, and when its first byte was written.
#[derive(Clone, Debug)]
pub struct Note {
    pub word: Word,
    pub at: Moment,
}

/// A `tidegate.v1` command that waits for its reply.
#[derive(Clone, Debug)]
enum Command {
    Subscribe(Ask),
    Follow(Following),
    Unfollow(Pattern),
    Name(usize),
    Unname(usize),
    Unsubscribe(usize),
    /// The same, of a channel that it had not come to be subscribed to.
    Withdraw,
    Publish(MessageId),
    Ping,
}

/// Patterns and names that a follower of patterns has.
#[derive(Clone, Default, Debug)]
pub struct Held {
    pub patterns: Vec<Pattern>,
    /// Channels, and the numbering in which each was named.
    pub names: Vec<(usize, Epoch)>,
}

impl Held {
    /// What it has once it was told `word`.
    pub fn absorb(&mut self, word: &Word) {
        match word {
            Word::Followed(following) => self.patterns.push(following.pattern.clone()),
            Word::Unfollowed(pattern) => self.patterns.retain(|other| other != pattern),
            Word::Named(channel, position) => self.names.push((*channel, position.epoch)),
            Word::Unnamed(channel) => self.names.retain(|(other, _)| other != channel),
            _ => {}
        }
    }

    /// The numbering in which `channel` was named, if it is.
    pub fn named(&self, channel: usize) -> Option<Epoch> {
        self.names.iter().find(|(other, _)| *other == channel).map(|(_, epoch)| *epoch)
    }

    /// Whether a pattern matches `channel`.
    pub fn matches(&self, channel: usize, truth: &Truth) -> bool {
        self.patterns.iter().any(|pattern| pattern.matches(&truth.channels[channel].name))
    }

    /// Whether it is given what is published to `channel`.
    pub fn has(&self, channel: usize, truth: &Truth) -> bool {
        self.named(channel).is_some() || self.matches(channel, truth)
    }
}

/// One client and everything it was told.
#[derive(Debug)]
pub struct Follower {
    pub number: usize,
    pub shard: usize,
    pub tongue: Tongue,
    pub pace: Pace,
    pub wire: WireRef,
    pub asks: Vec<Ask>,
    /// It follows patterns, and names nothing but what they match.
    pub is_of_patterns: bool,
    pub notes: Vec<Note>,
    pub status: Option<u16>,
    pub close: Option<String>,
    /// Its connection is over, whoever ended it.
    pub is_over: bool,
    /// It has not always read everything at once.
    pub is_slow: bool,
    /// When it was left in order, and whether it had everything then.
    pub ended: Option<(Moment, bool)>,
    pub has_left: bool,
    /// Messages that came.
    pub messages: u64,
    stream: Stream,
    chunks: Chunks,
    marks: VecDeque<(u64, Moment)>,
    marked: u64,
    taken: u64,
    part_began: Option<Moment>,
    commands: Vec<(u64, Command)>,
    next_id: u64,
    pub fault: Option<String>,
}

impl Follower {
    /// A client that has sent its request for `asks`.
    pub fn new(
        number: usize,
        shard: usize,
        tongue: Tongue,
        wire: WireRef,
        asks: Vec<Ask>,
        offer: Option<&str>,
        truth: &Truth,
    ) -> Self {
        wire.borrow_mut().flight.extend(request(tongue, &asks, offer, truth));
        Self {
            number,
            shard,
            tongue,
            pace: Pace::Healthy,
            wire,
            asks,
            is_of_patterns: false,
            notes: Vec::new(),
            status: None,
            close: None,
            is_over: false,
            is_slow: false,
            ended: None,
            has_left: false,
            messages: 0,
            stream: Stream::new(offer.is_some()),
            chunks: Chunks::default(),
            marks: VecDeque::new(),
            marked: 0,
            taken: 0,
            part_began: None,
            commands: Vec::new(),
            next_id: 0,
            fault: None,
        }
    }

    /// Whether it is joined and nobody has ended anything.
    pub fn is_open(&self) -> bool {
        let joined = if self.is_event_stream() { 200 } else { 101 };
        self.status == Some(joined) && !self.is_over && self.close.is_none() && !self.has_left
    }

    /// Whether it reads an event stream.
    pub fn is_event_stream(&self) -> bool {
        matches!(self.tongue, Tongue::Events | Tongue::Enveloped)
    }

    /// Whether it is told what it is not given.
    pub fn is_told(&self) -> bool {
        self.tongue != Tongue::Plain
    }

    /// Commands that wait for their replies.
    pub fn pending(&self) -> usize {
        self.commands.len()
    }

    /// Notes what was written to it by now.
    pub fn mark(&mut self, now: Moment) {
        let taken = self.wire.borrow().taken;
        if taken > self.marked {
            self.marked = taken;
            self.marks.push_back((taken, now));
        }
    }

    /// Everything on its way to the gateway arrives; whether there was any.
    pub fn arrive(&mut self) -> bool {
        let mut wire = self.wire.borrow_mut();
        let has_flight = !self.is_over && wire.has_flight();
        if has_flight {
            wire.arrive(usize::MAX);
        }
        has_flight
    }

    /// Reads up to `count` bytes; whether anything happened.
    pub fn read(&mut self, count: usize, truth: &mut Truth) -> bool {
        if self.is_over {
            return false;
        }
        let has_read = self.take(count, truth);
        let mut wire = self.wire.borrow_mut();
        if wire.readable() == 0 && wire.closed.is_some() {
            self.is_over = true;
            return true;
        }
        if wire.readable() == 0 && wire.is_shut_down && !wire.is_finishing {
            wire.is_finishing = true;
            return true;
        }
        has_read
    }

    /// Takes up to `count` bytes out of the socket, a mark at a time.
    fn take(&mut self, mut count: usize, truth: &mut Truth) -> bool {
        let mut has_read = false;
        while let Some((end, moment)) = self.marks.front().copied() {
            let length = count.min((end - self.taken) as usize);
            let bytes = self.wire.borrow_mut().take(length);
            has_read |= !bytes.is_empty();
            self.taken += bytes.len() as u64;
            count -= length;
            if self.taken == end {
                self.marks.pop_front();
            }
            if let Err(fault) = self.feed(&bytes, moment, truth) {
                self.fault.get_or_insert(fault);
            }
            if count == 0 {
                break;
            }
        }
        has_read
    }

    fn feed(&mut self, bytes: &[u8], moment: Moment, truth: &mut Truth) -> Result<(), String> {
        if bytes.is_empty() {
            return Ok(());
        }
        let mut began = self.part_began.unwrap_or(moment);
        for item in self.stream.feed(bytes)? {
            if let Item::Body(body) = &item {
                for event in self.chunks.feed(body)? {
                    self.on_event(&event, began, truth)?;
                    began = moment;
                }
            } else {
                self.on_item(item, began, truth)?;
                began = moment;
            }
        }
        let has_part = self.stream.has_part() || self.chunks.has_part();
        self.part_began = has_part.then_some(began);
        Ok(())
    }

    fn on_item(&mut self, item: Item, at: Moment, truth: &mut Truth) -> Result<(), String> {
        match item {
            Item::Head { status, text, .. } => {
                self.status = Some(status);
                if status == 101 && self.tongue == Tongue::Plain {
                    self.on_plain_head(&text, at)?;
                }
            }
            Item::Data { payload, .. } if self.tongue == Tongue::Plain => {
                self.messages += 1;
                let (channel, id) = match payload.as_slice() {
                    [] => (None, None),
                    payload => identify(payload).map(|(channel, id)| (Some(channel), Some(id)))?,
                };
                self.note(Word::Message { channel, position: None, id, key: None }, at);
            }
            Item::Data { payload, .. } => {
                let json: Value = serde_json::from_slice(&payload).map_err(|error| error.to_string())?;
                self.on_json(&json, at, truth)?;
            }
            Item::Ping(payload) => self.send(protocol::PONG, &payload),
            Item::Pong(_) | Item::Body(_) => {}
            Item::Close { code, reason } => {
                self.send(protocol::CLOSE, &protocol::close_payload(1000, ""));
                self.close = Some(format!("{code} {reason}"));
            }
        }
        Ok(())
    }

    fn note(&mut self, word: Word, at: Moment) {
        self.notes.push(Note { word, at });
    }

    fn on_plain_head(&mut self, head: &str, at: Moment) -> Result<(), String> {
        let list = |name: &str| -> Option<Vec<String>> {
            let line = head.split("\r\n").find_map(|line| line.strip_prefix(name))?;
            Some(line.split(", ").map(str::to_owned).collect())
        };
        let recovered = list("Tidegate-Recovered: ");
        let positions = list("Tidegate-Position: ");
        for (place, ask) in self.asks.clone().into_iter().enumerate() {
            let recovery = recovered.as_ref().and_then(|list| list.get(place)).map(String::as_str);
            let position = positions.as_ref().and_then(|list| list.get(place));
            let position = position.map(|text| text.parse()).transpose();
            let answer = Answer {
                position: position.map_err(|error| format!("{error}"))?,
                recovered: recovery.filter(|text| *text != "-").map(|text| text != "gap"),
                replayed: recovery.and_then(|text| text.parse().ok()),
                snapshot: None,
            };
            self.note(Word::Begun(ask, answer), at);
        }
        Ok(())
    }

    /// One event of an event stream, without the empty line behind it.
    fn on_event(&mut self, event: &str, at: Moment, truth: &mut Truth) -> Result<(), String> {
        let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).map(str::trim_start);
        let data: Vec<&str> =
            event.lines().filter_map(|line| line.strip_prefix("data:")).map(str::trim_start).collect();
        let data = data.join("\n");
        let id = field("id:");
        if event.starts_with(':') || id.is_none() && field("retry:").is_some() && field("event:").is_none() {
            return Ok(());
        }
        match field("event:") {
            Some("gw.close") => self.close = Some(data),
            Some(name) if name.starts_with("gw.") => {
                let json: Value = serde_json::from_str(&data).map_err(|error| error.to_string())?;
                self.on_json(&json, at, truth)?;
            }
            _ if id.is_some() && !event.contains("data:") => {
                let positions = id.unwrap_or_default().split(',');
                let positions = positions.map(|text| (!text.is_empty()).then(|| text.parse()).transpose());
                let positions: Result<Vec<_>, _> = positions.collect();
                self.note(Word::Ids(positions.map_err(|error| format!("{error}"))?), at);
            }
            kind if self.tongue == Tongue::Events => {
                let position =
                    id.ok_or("a message without id")?.parse().map_err(|error| format!("{error}"))?;
                let id = match kind {
                    _ if data.is_empty() => None,
                    Some("binary") => Some(identify(&decode(&data)?)?.1),
                    _ => Some(identify(data.as_bytes())?.1),
                };
                let channel = Some(self.asks[0].channel);
                self.messages += 1;
                self.note(Word::Message { channel, position: Some(position), id, key: None }, at);
            }
            None => {
                let json: Value = serde_json::from_str(&data).map_err(|error| error.to_string())?;
                self.on_json(&json, at, truth)?;
            }
            Some(kind) => return Err(format!("an event of type {kind}")),
        }
        Ok(())
    }

    /// A JSON object: a message, a reply or a notice.
    fn on_json(&mut self, json: &Value, at: Moment, truth: &mut Truth) -> Result<(), String> {
        let position = json["position"].as_str().map(str::parse::<Position>).transpose();
        let position = position.map_err(|error| format!("{error}"))?;
        let name = json["channel"].as_str();
        let is_pattern = name.is_some_and(|name| name.contains(['*', '>']));
        let name = name.filter(|_| !is_pattern);
        let channel = name.map(|name| truth.channel_named(name).ok_or("another channel")).transpose()?;
        let Some(kind) = json["type"].as_str() else {
            let payload = match (json["text"].as_str(), json["base64"].as_str()) {
                (Some(text), None) => text.as_bytes().to_vec(),
                (None, Some(text)) => decode(text)?,
                _ => Vec::new(),
            };
            let id = if payload.is_empty() { None } else { Some(identify(&payload)?.1) };
            let key = json["key"].as_str().map(str::to_owned);
            self.messages += 1;
            self.note(Word::Message { channel, position, id, key }, at);
            return Ok(());
        };
        let count = json["count"].as_u64();
        let left = match kind {
            "conflated" => Some(Left::Conflated),
            "expired" => Some(Left::Expired),
            "skipped" => Some(Left::Skipped),
            _ => None,
        };
        if let (Some(left), Some(channel), Some(count)) = (left, channel, count) {
            self.note(Word::Notice { channel, left, count, position }, at);
            return Ok(());
        }
        let command = match json["id"].as_u64() {
            None => None,
            Some(id) => {
                let place = self.commands.iter().position(|(known, _)| *known == id);
                Some(self.commands.remove(place.ok_or("a reply to nothing")?).1)
            }
        };
        match (kind, command, channel, position) {
            ("subscribed", Some(Command::Follow(following)), None, None)
                if json["channel"] == following.pattern.as_str() =>
            {
                self.note(Word::Followed(following), at);
            }
            ("unsubscribed", Some(Command::Unfollow(pattern)), None, _)
                if json["channel"] == pattern.as_str() =>
            {
                self.note(Word::Unfollowed(pattern), at);
            }
            ("subscribed", Some(Command::Name(asked)), Some(channel), Some(position)) if asked == channel => {
                self.note(Word::Named(channel, position), at);
            }
            ("unsubscribed", Some(Command::Unname(asked)), Some(channel), _) if asked == channel => {
                self.note(Word::Unnamed(channel), at);
            }
            ("subscribed", command, Some(channel), Some(position)) => {
                let ask = match command {
                    Some(Command::Subscribe(ask)) if ask.channel == channel => ask,
                    None => {
                        let ask = self.asks.iter().find(|ask| ask.channel == channel);
                        ask.cloned().ok_or("subscribed to something else")?
                    }
                    other => return Err(format!("subscribed for {other:?}")),
                };
                let answer = Answer {
                    position: Some(position),
                    recovered: json["recovered"].as_bool(),
                    replayed: json["replayed"].as_u64(),
                    snapshot: json["snapshot"].as_u64(),
                };
                self.note(Word::Begun(ask, answer), at);
            }
            ("unsubscribed", Some(Command::Unsubscribe(asked)), Some(channel), _) if asked == channel => {
                self.note(Word::Unsubscribed(channel), at);
            }
            ("published", Some(Command::Publish(id)), Some(_), Some(position)) => {
                truth.number(id, position, at);
            }
            ("error", Some(Command::Subscribe(ask)), ..) if json["error"] == "not_subscribed" => {
                let is_it =
                    |command: &Command| matches!(command, Command::Unsubscribe(it) if *it == ask.channel);
                let withdrawn = self.commands.iter_mut().map(|(_, command)| command).find(|it| is_it(it));
                *withdrawn.ok_or("not subscribed, and nothing else was wanted")? = Command::Withdraw;
            }
            ("unsubscribed", Some(Command::Withdraw), ..) => {}
            ("pong", Some(Command::Ping), _, _) | ("draining", None, _, _) => {}
            (_, command, _, _) => return Err(format!("{json} for {command:?}")),
        }
        Ok(())
    }

    fn send(&mut self, opcode: u8, payload: &[u8]) {
        let mask = (self.next_id as u32 | 0x8000_0000).to_be_bytes();
        self.wire.borrow_mut().flight.extend(protocol::frame(opcode, payload, mask));
    }

    fn command(&mut self, command: Command, json: &Value) {
        let id = self.next_id;
        self.next_id += 1;
        self.commands.push((id, command));
        let mut json = json.clone();
        json["id"] = id.into();
        self.send(protocol::TEXT, json.to_string().as_bytes());
    }

    /// Asks for one more channel.
    pub fn subscribe(&mut self, ask: Ask, truth: &Truth) {
        let mut json = about("subscribe", truth.channels[ask.channel].name.as_str());
        if let Some(since) = ask.since {
            json["since"] = since.to_string().into();
        }
        if ask.snapshot {
            json["snapshot"] = true.into();
        }
        self.command(Command::Subscribe(ask), &json);
    }

    /// Asks for what matches `pattern`, when nothing is under way.
    pub fn follow(&mut self, pattern: Pattern, asked: Moment) {
        let json = about("subscribe", pattern.as_str());
        self.is_of_patterns = true;
        self.command(Command::Follow(Following { pattern, asked }), &json);
    }

    /// Wants no more of what matches `pattern`, unless something else holds it.
    pub fn unfollow(&mut self, pattern: Pattern) {
        let json = about("unsubscribe", pattern.as_str());
        self.command(Command::Unfollow(pattern), &json);
    }

    /// Subscribes by its name to `channel`, which a pattern of its matches.
    pub fn name(&mut self, channel: usize, truth: &Truth) {
        self.command(Command::Name(channel), &about("subscribe", truth.channels[channel].name.as_str()));
    }

    /// Gives the name of `channel` up.
    pub fn unname(&mut self, channel: usize, truth: &Truth) {
        self.command(Command::Unname(channel), &about("unsubscribe", truth.channels[channel].name.as_str()));
    }

    /// What it follows and what it names, when every command was answered.
    pub fn held(&self) -> Held {
        let mut held = Held::default();
        self.notes.iter().for_each(|note| held.absorb(&note.word));
        held
    }

    /// Wants no more of `channel`.
    pub fn unsubscribe(&mut self, channel: usize, truth: &Truth) {
        let json = about("unsubscribe", truth.channels[channel].name.as_str());
        self.command(Command::Unsubscribe(channel), &json);
    }

    /// Publishes the message `id`, which is in `json` without its channel.
    pub fn publish(&mut self, id: MessageId, json: &Value) {
        self.command(Command::Publish(id), json);
    }

    /// Wants to hear something.
    pub fn ping(&mut self) {
        self.command(Command::Ping, &serde_json::json!({"type": "ping"}));
    }

    /// Channels that it has, or will have.
    pub fn channels(&self) -> Vec<usize> {
        let mut channels = Vec::new();
        for note in &self.notes {
            match &note.word {
                Word::Begun(ask, _) => channels.push(ask.channel),
                Word::Unsubscribed(channel) => channels.retain(|other| other != channel),
                _ => {}
            }
        }
        channels.extend(self.unbegun());
        for (_, command) in &self.commands {
            match command {
                Command::Subscribe(ask) => channels.push(ask.channel),
                Command::Unsubscribe(channel) => channels.retain(|other| other != channel),
                _ => {}
            }
        }
        channels
    }

    /// Channels of its request that it has no answer about.
    fn unbegun(&self) -> Vec<usize> {
        let has_begun = |channel| {
            let is_it = |note: &Note| matches!(&note.word, Word::Begun(ask, _) if ask.channel == channel);
            self.notes.iter().any(is_it)
        };
        self.asks.iter().map(|ask| ask.channel).filter(|channel| !has_begun(*channel)).collect()
    }

    /// Channels that it asked for and has no answer about.
    pub fn unanswered(&self) -> Vec<usize> {
        let later = self.commands.iter().filter_map(|(_, command)| match command {
            Command::Subscribe(ask) => Some(ask.channel),
            _ => None,
        });
        self.unbegun().into_iter().chain(later).collect()
    }

    /// Resets the connection. What was written to it counts as read.
    pub fn reset(&mut self, truth: &mut Truth) {
        self.take(usize::MAX, truth);
        self.wire.borrow_mut().reset();
        self.has_left = true;
        self.is_over = true;
    }

    /// Ends its side.
    pub fn finish(&mut self) {
        self.wire.borrow_mut().is_finishing = true;
        self.has_left = true;
    }
}

/// A command of the type `kind`, about a channel or a pattern.
fn about(kind: &str, channel: &str) -> Value {
    serde_json::json!({"type": kind, "channel": channel})
}

fn decode(text: &str) -> Result<Vec<u8>, String> {
    data_encoding::BASE64.decode(text.as_bytes()).map_err(|error| error.to_string())
}

fn request(tongue: Tongue, asks: &[Ask], offer: Option<&str>, truth: &Truth) -> Vec<u8> {
    let names: Vec<&str> = asks.iter().map(|ask| truth.channels[ask.channel].name.as_str()).collect();
    let route = if matches!(tongue, Tongue::Plain | Tongue::V1) { "/ws" } else { "/sse" };
    let mut target = match *names {
        [] => format!("{route}?"),
        [one] if tongue != Tongue::Enveloped => format!("{route}/{one}?"),
        _ => format!("{route}?channels={}&", names.join(",")),
    };
    let since: Vec<String> =
        asks.iter().map(|ask| ask.since.map_or(String::new(), |since| since.to_string())).collect();
    if since.iter().any(|since| !since.is_empty()) {
        target += &format!("since={}&", since.join(","));
    }
    if asks.iter().any(|ask| ask.snapshot) {
        target += "snapshot=1";
    }
    let mut headers = offer.map_or(String::new(), |offer| format!("Sec-WebSocket-Extensions: {offer}\r\n"));
    match tongue {
        Tongue::V1 => headers += "Sec-WebSocket-Protocol: tidegate.v1\r\n",
        Tongue::Plain => {}
        Tongue::Events | Tongue::Enveloped => {
            return format!("GET {target} HTTP/1.1\r\nHost: feed.example\r\n\r\n").into_bytes();
        }
    }
    protocol::upgrade_to(&target, &headers)
}
