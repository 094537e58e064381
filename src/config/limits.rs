//! Every maximum that is not an option: its name, unit, reason, and what happens when it is reached.

use std::time::Duration;

/// Bytes of a request head; beyond: 431 `head_too_big`.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Bytes of one line of a request head; beyond: 414 `target_too_long` or 431 `head_too_big`.
pub const HEAD_LINE_BYTES_MAX: usize = 8 * 1024;
/// Header lines of a request; beyond: 431 `too_many_headers`.
pub const HEADERS_MAX: usize = 64;
/// Bytes of a request method; beyond: 400 `request_line`.
pub const METHOD_BYTES_MAX: usize = 16;
/// Extensions that a client may offer; beyond: 431 `too_many_extensions` (GUARANTEES A20).
pub const EXTENSIONS_MAX: usize = 8;
/// Bytes of addresses and TLVs in a PROXY header of version 2; beyond: reset, `proxy_header`. What the protocol asks every
/// receiver to take in one piece (§2.2: 536, the least TCP segment).
pub const PROXY_HEADER_BODY_BYTES_MAX: usize = 536;
/// Networks of trusted proxies: each is looked at for a connection and for every hop of a request.
pub const TRUSTED_PROXIES_MAX: usize = 256;
/// Bytes of `Sec-WebSocket-Extensions`, all its lines together; beyond: 431 `too_many_extensions`.
pub const EXTENSIONS_BYTES_MAX: usize = 1024;
/// Channels that one connection may join; beyond: 400 `channel_limit`.
pub const CHANNELS_PER_CONNECTION_MAX: usize = 128;
/// Largest `--max-patterns`.
pub const PATTERNS_PER_CONNECTION_MAX: usize = 128;
/// Different patterns of one shard's clients: each is compared with every channel that comes alive, by every shard; beyond:
/// the error `pattern_limit`. 0.1 ms a channel when all shards of four have as many.
pub const PATTERNS_PER_SHARD_MAX: usize = 1024;
/// Bytes that a pattern is accounted for with, on each shard that knows it.
pub const PATTERN_BYTES: usize = 512;
/// The same for a client that holds it.
pub const PATTERN_HOLDER_BYTES: usize = 128;
/// The same for a channel that patterns match, beside what it is accounted for anyhow.
pub const MATCHED_CHANNEL_BYTES: usize = 192;
/// How long a channel that only patterns match is kept after its last message.
pub const PATTERN_LINGER: Duration = Duration::from_secs(10);
/// Channels that were quiet for so long, and their members, that are let go in one turn, one channel's members at once.
pub const QUIET_PER_TURN: usize = 4096;
/// Messages a second that a subscriber may ask to be limited to; beyond: 400 `bad_parameter`.
pub const SUBSCRIBER_RATE_MAX: u16 = 1000;
/// Requests answered on one keep-alive connection; the last says `Connection: close`.
pub const REQUESTS_PER_CONNECTION_MAX: u32 = 1000;
/// Time between two requests on a keep-alive connection; then it is closed.
pub const KEEP_ALIVE_IDLE: Duration = Duration::from_secs(60);
/// From our close frame to the client's; then the socket is reset (GUARANTEES B18).
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);
/// From the first byte of a message to its last; beyond: 1008 `stalled_msg` (GUARANTEES B9).
pub const MESSAGE_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes that a fragment of a client message counts on top of its payload: what its frame costs to take (GUARANTEES B8).
pub const FRAGMENT_OVERHEAD_BYTES: u64 = 64;
/// Fragments of one client message that carry nothing and are not its last; beyond: 1008 `frag_overhead`.
pub const EMPTY_FRAGMENTS_MAX: u8 = 8;
/// Control frames that a client may send at once without being asked for them: pings, and pongs that answer no ping of
/// ours; beyond: 1008 `ctl_flood` (GUARANTEES B11).
pub const CONTROL_FRAMES_BURST: u16 = 20;
/// After this much time it may send one more.
pub const CONTROL_FRAMES_INTERVAL: Duration = Duration::from_millis(100);
/// Bytes of own frames (pong, close, replies) that wait for one connection; beyond: 1008 `ctl_flood`.
pub const OWN_FRAMES_BYTES_MAX: usize = 64 * 1024;
/// Bytes that a connection at rest is accounted for with, its timer, its place in the slab and where it waits included (BUDGETS).
pub const CONNECTION_BYTES: usize = 144;
/// The same for a subscription: itself and its place among the members.
pub const SUBSCRIPTION_BYTES: usize = 24;
/// The same for a channel that a shard knows: its name twice, its place in the map, its numbering; the feed aside.
pub const CHANNEL_BYTES: usize = 512;
/// The same for a channel's compressor and the newest payloads beside it.
pub const COMPRESSOR_BYTES: usize = 436 * 1024;
/// Smallest `--memory`: below it the grades would follow single messages.
pub const MEMORY_BYTES_MIN: u64 = 16 * 1024 * 1024;
/// Largest `--memory`.
pub const MEMORY_BYTES_MAX: u64 = 64 * 1024 * 1024 * 1024 * 1024;
/// Per cent of the limit of the control group, or of the machine's memory, that `--memory auto` takes.
pub const MEMORY_AUTO_PERCENT: u64 = 75;
/// One in this many connections of a shard may be closed a second for want of memory (GUARANTEES C7).
pub const SHED_DIVISOR: usize = 20;
/// Slots looked at in one turn for those furthest behind.
pub const SLOTS_PER_STEP: u32 = 16_384;
/// Bytes handed to one socket in one write, so that a control frame finds a boundary soon: 64 KiB of
/// messages and room for their frame headers, or four of 16 KiB would take two writes.
pub const WRITE_BYTES_MAX: usize = 64 * 1024 + 1024;
/// Bytes read from one connection per turn; the rest waits on the ready list.
pub const READ_BYTES_PER_TURN: usize = 64 * 1024;
/// Request heads completed per turn and shard; who comes after them is read in the next turn (GUARANTEES C5).
pub const HEADS_PER_TURN: usize = 128;
/// Messages taken from one connection per turn; the rest waits in its socket (GUARANTEES B13).
pub const MESSAGES_READ_PER_TURN: usize = 64;
/// How long a client is not read once it has sent more than `--client-rate` allows.
pub const CLIENT_REST: Duration = Duration::from_secs(1);
/// For how long it may go from one rest to the next; beyond: 4102 `rate_limited` (GUARANTEES B13).
pub const CLIENT_FLOOD_TIMEOUT: Duration = Duration::from_secs(5);
/// Largest `--client-rate`.
pub const CLIENT_RATE_MAX: u64 = 1_000_000;
/// Publications taken from the bus per turn and shard.
pub const PUBLISHES_PER_TURN: usize = 256;
/// Orders taken from the bus per turn and shard.
pub const ORDERS_PER_TURN: usize = 1024;
/// Timers looked at per turn and shard.
pub const TIMERS_PER_TURN: usize = 4096;
/// Messages a bus lane holds; a full publish lane pushes back on the publisher.
pub const BUS_LANE_MESSAGES: usize = 1024;
/// Bytes of a published message through the admin listener; beyond: 413 `body_too_big`.
pub const PUBLISH_BYTES_MAX: usize = 1024 * 1024;
/// Messages of one batch publish; beyond: 413 `body_too_big`.
pub const PUBLISH_BATCH_MAX: usize = 1000;
/// For how long a publish under a key is not made a second time (GUARANTEES E8).
pub const IDEMPOTENCY_WINDOW: Duration = Duration::from_secs(5 * 60);
/// Idempotency keys of publishers that a shard keeps for the channels that are homed there; for a further one the oldest is
/// put away. 67 MiB when all are as long as may be.
pub const IDEMPOTENCY_KEYS_MAX: usize = 100_000;
/// The same of clients, who are many and need theirs from when a connection is lost to the next: 500 a second for 40 s,
/// beyond the longest wait of the JavaScript client. 13 MiB.
pub const CLIENT_IDEMPOTENCY_KEYS_MAX: usize = 20_000;
/// Rows of one page of an admin listing.
pub const PAGE_ROWS_MAX: usize = 1000;
/// Ends of connections and requests that each shard keeps for `/api/closed`, newest first; older ones are forgotten.
pub const ENDS_KEPT: usize = 1000;
/// Log records of ends a second, for each reason and shard; further ones are counted and summed up in one.
pub const ENDS_LOGGED_PER_SECOND: u32 = 5;
/// Addresses of clients that are counted at a time (GUARANTEES C4); if all places of a further one are in use, it is not
/// limited. 1.5 MiB when all are used.
pub const ADDRESSES_MAX: usize = 65_536;
/// New connections of an address may come at once, as many as are due in so many seconds.
pub const ADDRESS_BURST_SECONDS: u64 = 3;
/// Largest `--max-per-address` and `--connect-rate-per-address`.
pub const PER_ADDRESS_MAX: u64 = 1_000_000;
/// Shard threads.
pub const SHARDS_MAX: usize = 256;
/// Descriptors kept at least for listeners, wakers, the admin side, spare ones and clients over the limit (GUARANTEES C3).
pub const DESCRIPTORS_RESERVED: usize = 64;
/// Of the connections, one in so many may wait for a complete request head (GUARANTEES A23); beyond, the one that has
/// waited longest is reset.
pub const PENDING_DIVISOR: usize = 10;
/// As many may wait on each shard, however few connections there are to be.
pub const PENDING_MIN: usize = 64;
/// Clients over the connection limit that may hold a descriptor of one table at a time, while they read that there is no
/// room for them; the one that came first makes room for the next.
pub const REFUSED_MAX: usize = 8;
/// Shortest and longest duration an option takes, unless it says otherwise (GUARANTEES D5).
pub const DURATION_MIN: Duration = Duration::from_millis(1);
/// See [`DURATION_MIN`].
pub const DURATION_MAX: Duration = Duration::from_secs(30 * 24 * 3600);
/// Longest `--batch-window`: a feed that waits longer is no longer live.
pub const BATCH_WINDOW_MAX: Duration = Duration::from_secs(1);
/// Longest `--user-timeout`: the kernel takes it as milliseconds in 31 bits, which end at 24 days.
pub const USER_TIMEOUT_MAX: Duration = Duration::from_secs(24 * 3600);
/// From this `--ping-interval` on the operator is warned: many middleboxes cut a silent connection at 60 s.
pub const PING_INTERVAL_WARN: Duration = Duration::from_secs(55);
/// Largest `--max-connections`.
pub const CONNECTIONS_MAX: u64 = 100_000_000;
/// Largest `--backlog`; the kernel cuts it at `net.core.somaxconn`.
pub const BACKLOG_MAX: u64 = 65_535;
/// Largest `--accepts-per-turn`.
pub const ACCEPTS_PER_TURN_MAX: u64 = 65_536;
/// Largest `--connect-rate`.
pub const CONNECT_RATE_MAX: u64 = 10_000_000;
/// Largest `--write-budget`.
pub const WRITE_BUDGET_MAX: u64 = 1_000_000;
/// Largest `--max-message`.
pub const MESSAGE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Largest socket buffer option; the kernel takes it in 31 bits and doubles it.
pub const SOCKET_BUFFER_BYTES_MAX: u64 = 512 * 1024 * 1024;
/// Largest `--history-messages`.
pub const HISTORY_MESSAGES_MAX: u64 = 1_000_000_000;
/// Largest `--history-bytes` and `--max-lag-bytes`: what one channel may hold on one shard.
pub const JOURNAL_BYTES_MAX: u64 = 64 * 1024 * 1024 * 1024;
/// Largest `--keys-per-channel`.
pub const KEYS_PER_CHANNEL_MAX: u64 = 1_000_000;
/// Bytes of a configuration file; beyond: refused at start.
pub const CONFIG_FILE_BYTES_MAX: u64 = 1024 * 1024;
/// Listen addresses of one process.
pub const LISTEN_ADDRESSES_MAX: usize = 64;
/// `[[channel]]` tables of a file, and relay patterns: each is looked at once per channel that comes alive.
pub const CHANNEL_RULES_MAX: usize = 1000;
/// Largest `--compression-level`, zlib's.
pub const COMPRESSION_LEVEL_MAX: u64 = 9;
/// Largest `--compression-epoch`: who joins reads plain messages until the epoch ends.
pub const COMPRESSION_EPOCH_MAX: u64 = 65_536;
/// Payload bytes that go into one epoch; then the compressor starts afresh whatever `--compression-epoch` says, so that
/// who joins a channel of large messages does not wait for long. Eight windows of 32 KiB: what a fresh start costs is lost
/// in as much.
pub const EPOCH_BYTES_MAX: usize = 256 * 1024;
/// Payload bytes that a shard deflates in one turn; then it takes no more publishes before the next. 1 ms at
/// level 1, 3 ms at level 6; 45 ms of bytes made to cost level 9 most, 350 ns each.
pub const DEFLATED_BYTES_PER_TURN: usize = 128 * 1024;
/// Compressors of one shard, 371 KiB each: messages of further channels go out plain until one is free.
pub const COMPRESSORS_MAX: usize = 256;
/// Bytes of a client's compressed message that are gathered and inflated at once, 3.3 ms if they were made to cost most; a
/// longer one is inflated while it comes, with 48 KiB of its own (GUARANTEES B14).
pub const INFLATE_AT_ONCE_BYTES_MAX: usize = 16 * 1024;
/// What a compressed byte counts of [`READ_BYTES_PER_TURN`], on top of what it inflates to: inflating it takes up to
/// 0.2 µs, a byte of small plain messages a tenth.
pub const INFLATE_WORK_PER_BYTE: usize = 16;
/// Bytes read at a time from a client that may compress: 4 MiB when inflated, at most, and 0.8 ms. Both count
/// against [`READ_BYTES_PER_TURN`] before more is read.
pub const COMPRESSED_READ_BYTES: usize = 4 * 1024;
/// Origins of `--allow-origin`: each is compared once for an upgrade of a page.
pub const ALLOWED_ORIGINS_MAX: usize = 1000;
/// Hosts of `--allow-host`: each is compared once for a request.
pub const SERVED_HOSTS_MAX: usize = 1000;
/// Names of `--subprotocol`.
pub const SUBPROTOCOLS_MAX: usize = 64;
/// Subprotocols that a client may offer; beyond: 400 `subprotocol` (GUARANTEES A19).
pub const SUBPROTOCOLS_OFFERED_MAX: usize = 16;
/// A shard that did not turn for this long has been frozen, whatever half of `--pong-timeout` is: deadlines are put off
/// (GUARANTEES D4).
pub const FREEZE_MAX: Duration = Duration::from_secs(5);
/// A shorter time is no freeze: a long pass on a busy machine takes as much.
pub const FREEZE_MIN: Duration = Duration::from_millis(250);
/// Log records that wait for standard error, and those that are being written, each: further ones are dropped and counted
/// (GUARANTEES C15).
pub const LOG_BYTES_MAX: usize = 256 * 1024;
/// How long an end waits for standard error to take what was logged.
pub const LOG_FLUSH_TIMEOUT: Duration = Duration::from_secs(1);
/// Arrays and objects in each other in a command of `tidegate.v1`, itself the first; beyond: 4007 `bad_message` (GUARANTEES
/// B24).
pub const COMMAND_DEPTH_MAX: usize = 16;
