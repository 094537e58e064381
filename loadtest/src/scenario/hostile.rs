//! `hostile`: connections that do what no client should, beside canaries: subscribers who verify a slow feed from before
//! until after, and others that join meanwhile. Three series: during the attack, before it, after it.

use std::time::{Duration, Instant};

use super::load::{self, Published, unless_interrupted};
use super::rounds::{self, Length};
use super::shortage::Shortage;
use super::{fanout, shortage};
use crate::attack::{Orders, Outcomes, Script, Squad};
use crate::cli::{Common, HostileKind, HostileOptions};
use crate::crew::Manner;
use crate::failure::Failure;
use crate::report::Report;
use crate::round::{Round, Stopwatch};
use crate::sources::{Sources, ports_per_address};
use crate::stage::Stage;
use crate::sys;

/// The only server.
const SERVER: usize = 0;
/// The series, in the order in which they are told; they are played in another.
const SERIES: [&str; 3] = ["during", "before", "after"];
/// How often the server's memory is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Over what time its CPU at the peak is taken.
const CPU_EVERY: Duration = Duration::from_millis(500);
/// Least time of the attack: whoever joins meanwhile is to be some.
const ATTACK_MIN: Duration = Duration::from_secs(1);

/// The common options, with room for those who join.
///
/// # Errors
/// `Usage` for what this scenario does not do.
pub fn common(options: &HostileOptions) -> Result<Common, Failure> {
    let mut common = options.common.clone();
    if common.limit.len() + usize::from(!common.url.is_empty()) != 1 || !common.versus_url.is_empty() {
        return Err(Failure::Usage("one server is attacked: give --url, or --limit alone".into()));
    }
    if common.stalled_share > 0.0 || !(0.0..=10_000.0).contains(&options.joins) {
        return Err(Failure::Usage(
            "--joins must be between 0 and 10000 a second, without --stalled-share".into(),
        ));
    }
    if !(1.0..=1e6).contains(&options.open_rate) {
        return Err(Failure::Usage("--open-rate must be between 1 and 1000000 connections a second".into()));
    }
    if !(0.1..=1000.0).contains(&options.rate) || options.attackers == Some(0) {
        return Err(Failure::Usage(
            "--rate must be between 0.1 and 1000 messages a second, --attackers 1 or more".into(),
        ));
    }
    common.connections += (options.joins * options.length.as_secs_f64()).ceil() as usize + 1;
    Ok(common)
}

/// Runs it.
///
/// # Errors
/// Why it could not be completed.
pub fn run(stage: &mut Stage, report: &mut Report, options: &HostileOptions) -> Result<(), Failure> {
    let canaries = options.common.connections;
    let scripts = scripts(options);
    let attackers = scripts.iter().map(|(_, count)| count).sum::<usize>();
    let kind = format!("{:?}", options.kind).to_lowercase();
    report.describe(
        "hostile",
        "delivery",
        format!("{kind}: {attackers} hostile connections beside {canaries} canaries"),
    );
    stage.say(&format!("connecting {canaries} canaries"));
    stage.crew.open(SERVER, canaries, false, &stage.watch)?;
    fanout::warm_up(stage, 1, options.size)?;
    let orders = orders(stage, options, scripts);
    let mut attack = Attack::new(options, orders);
    let names = [SERIES[1], SERIES[0], SERIES[2]].map(str::to_owned);
    let played = rounds::alternate(stage, report, &names, Length::Rounds(1), |stage, series| match series {
        0 => {
            let round = load::open_loop(stage, SERVER, options.rate, 1, options.size, options.quiet_seconds);
            attack.before = resident(stage);
            round
        }
        1 if options.kind == HostileKind::Descriptors => shortage::round(stage, &mut attack),
        1 => attack.round(stage),
        _ => load::open_loop(stage, SERVER, options.rate, 1, options.size, options.quiet_seconds),
    });
    // What it is about comes first.
    if report.series.len() == SERIES.len() {
        report.series.swap(0, 1);
    }
    attack.tell(stage, report);
    played
}

/// What the kinds do by themselves.
fn scripts(options: &HostileOptions) -> Vec<(Script, usize)> {
    let count = |usual| options.attackers.unwrap_or(usual);
    match options.kind {
        HostileKind::Fragments => vec![(Script::Fragments(options.fragments), count(10))],
        HostileKind::Lengths => vec![(Script::Length, count(10_000))],
        HostileKind::Silent => {
            let all = count(20_000);
            vec![(Script::Silent, all - all / 4), (Script::Dribble, all / 4)]
        }
        HostileKind::Descriptors => vec![(Script::Upgrade, count(500))],
        HostileKind::Foreign => vec![(Script::Foreign, count(20_000))],
        HostileKind::Crowd => vec![(Script::Upgrade, count(20_000))],
    }
}

fn orders(stage: &Stage, options: &HostileOptions, scripts: Vec<(Script, usize)>) -> Orders {
    let url = stage.arms[SERVER].target.urls[0].clone();
    let all = scripts.iter().map(|(_, count)| count).sum();
    let suitable = || Sources::suitable_for([url.address], all, ports_per_address());
    let sources = options.common.sources.clone().unwrap_or_else(suitable);
    Orders { url, sources, scripts, per_second: options.open_rate }
}

/// An attack, and what it has shown.
pub struct Attack<'a> {
    /// What was asked for.
    pub options: &'a HostileOptions,
    /// Who attacks.
    pub orders: Orders,
    /// What became of each.
    pub outcomes: Outcomes,
    /// The server's resident bytes before.
    before: u64,
    /// The most resident bytes that were seen.
    peak: u64,
    /// When the server's CPU was last looked at and what it was, nanoseconds; and the most cores between two looks.
    cpu: Option<(Instant, u64)>,
    peak_cores: f64,
    /// Connections that came to stand, and those that got a 101.
    connected: u64,
    upgraded: u64,
    /// What a shortage of descriptors has shown.
    pub shortage: Shortage,
}

impl<'a> Attack<'a> {
    /// One that has not begun.
    fn new(options: &'a HostileOptions, orders: Orders) -> Self {
        let (outcomes, shortage) = (Outcomes::new(), Shortage::default());
        Self {
            options,
            orders,
            outcomes,
            before: 0,
            peak: 0,
            cpu: None,
            peak_cores: 0.0,
            connected: 0,
            upgraded: 0,
            shortage,
        }
    }

    /// Starts the attackers.
    ///
    /// # Errors
    /// As `Squad::start`.
    pub fn start(&self) -> Result<Squad, Failure> {
        let limit = sys::raise_descriptor_limit()
            .map_err(|error| Failure::Usage(format!("descriptor limit: {error}")))?;
        Squad::start(&self.orders, limit, &self.options.common.client_cores)
    }

    /// Looks at the server's memory and CPU.
    pub fn look(&mut self, stage: &Stage) {
        let (cpu, resident) = stage.arms[SERVER].processes.glance();
        self.peak = self.peak.max(resident);
        let (now, cpu_ns) = (Instant::now(), cpu.total_ns);
        let (last, last_ns) = *self.cpu.get_or_insert((now, cpu_ns));
        let elapsed = now.duration_since(last);
        if elapsed >= CPU_EVERY {
            let cores = cpu_ns.saturating_sub(last_ns) as f64 / elapsed.as_nanos() as f64;
            self.peak_cores = self.peak_cores.max(cores);
            self.cpu = Some((now, cpu_ns));
        }
    }

    /// Ends the attackers, and keeps what became of them.
    pub fn end(&mut self, squad: Squad) {
        (self.connected, self.upgraded) = (squad.progress().connected(), squad.progress().upgraded());
        self.outcomes = squad.end();
    }

    fn round(&mut self, stage: &mut Stage) -> Result<Round, Failure> {
        let mut published = Published::after(load::warm_up(stage, SERVER, 1, self.options.size)?);
        let stopwatch = Stopwatch::start(stage, SERVER)?;
        let squad = self.start()?;
        let played = self.play(stage, &squad, &mut published);
        self.end(squad);
        unless_interrupted(played)?;
        published.stop(stage, stopwatch)
    }

    fn play(&mut self, stage: &mut Stage, squad: &Squad, published: &mut Published) -> Result<(), Failure> {
        let (options, before) = (self.options, stage.crew.stats(SERVER));
        let (start, start_ns) = (Instant::now(), sys::monotonic_ns());
        let (mut messages, mut joined) = (0_u32, 0);
        while start.elapsed() < options.length && !(squad.is_over() && start.elapsed() >= ATTACK_MIN) {
            let elapsed_s = start.elapsed().as_secs_f64();
            let due = (elapsed_s * options.joins) as usize - joined;
            if due > 0 {
                stage.crew.begin_to_open(SERVER, due, Manner { midway: true, ..Manner::default() });
                joined += due;
            }
            if f64::from(messages) <= elapsed_s * options.rate {
                let due_ns = start_ns + (f64::from(messages) / options.rate * 1e9) as u64;
                published.publish(stage, SERVER, 1, options.size, due_ns)?;
                messages += 1;
            }
            self.look(stage);
            let next = start + Duration::from_secs_f64(f64::from(messages) / options.rate);
            stage.watch.until_moment(next.min(Instant::now() + LOOK_EVERY))?;
        }
        // While the attackers are still there: a canary that waits for its place waits because of them.
        stage.crew.wait_opened(SERVER, joined, &before, &stage.watch)?;
        published.publish(stage, SERVER, 1, options.size, sys::monotonic_ns())?;
        published.wait(stage, SERVER)
    }

    /// Adds what it has shown to a report.
    fn tell(&self, stage: &Stage, report: &mut Report) {
        let name = &stage.arms[SERVER].target.name;
        if self.outcomes.is_empty() {
            return;
        }
        report.add_fact("hostile_connected", self.connected as f64, "hostile connections that came to stand");
        report.add_fact("hostile_upgraded", self.upgraded as f64, "of those, the ones that got a 101");
        // Whoever is still there is told of though nobody is.
        let still: Outcomes = ["open", "waiting"].map(|outcome| (outcome.to_owned(), 0)).into();
        for (outcome, &count) in
            still.iter().filter(|&(outcome, _)| !self.outcomes.contains_key(outcome)).chain(&self.outcomes)
        {
            report.add_fact(&format!("hostile_{outcome}"), count as f64, meaning(outcome));
        }
        if self.options.kind == HostileKind::Descriptors {
            let Shortage { served_before, served_s, waiting_cores } = self.shortage;
            let meaning = "clients served while there were no descriptors";
            report.add_fact("hostile_served_early", served_before as f64, meaning);
            let meaning = "s from when there were descriptors until all clients were served or refused";
            report.add_fact("hostile_served_seconds", served_s, meaning);
            let meaning = "cores kept busy by the server while they waited";
            report.add_fact("hostile_waiting_cores", waiting_cores, meaning);
        }
        if matches!(self.options.kind, HostileKind::Foreign | HostileKind::Crowd) {
            let cpu_s = cpu_of_attack(report);
            let rate = (cpu_s > 0.0).then(|| refused(&self.outcomes) as f64 / cpu_s);
            let meaning = "refusals for each second of CPU that the server used more than before";
            report.add_fact("hostile_refusals_per_core_second", rate, meaning);
        }
        for series in report.series.clone() {
            let cores = |round: &Round| {
                (round.server.total_ns > 0).then(|| round.server.total_ns as f64 / 1e9 / round.wall_s)
            };
            let cores = series.rounds.first().and_then(cores);
            report.add_fact(&format!("{name}_cores_{}", series.name), cores, "cores kept busy by the server");
            let joined = series.rounds.first().map(|round| &round.handshake).filter(|all| !all.is_empty());
            if let Some(all) = joined {
                let ms = |quantile| all.value_at_quantile(quantile) as f64 / 1e6;
                report.add_fact(
                    "hostile_handshake_p50_ms",
                    ms(0.5),
                    "ms until a canary had joined meanwhile, median",
                );
                report.add_fact("hostile_handshake_p99_ms", ms(0.99), "ms the same, p99");
            }
        }
        let (first, peak, after) =
            (self.before as f64, self.peak.max(self.before) as f64, resident(stage) as f64);
        if self.before == 0 {
            return;
        }
        report.add_fact(
            &format!("{name}_cores_peak"),
            self.peak_cores,
            "cores in the busiest half second of the attack",
        );
        report.add_fact(&format!("{name}_before_rss_bytes"), first, "bytes resident before the attack");
        report.add_fact(&format!("{name}_peak_rss_bytes"), peak, "bytes resident at most during it");
        report.add_fact(&format!("{name}_after_rss_bytes"), after, "bytes resident after it");
        report.add_fact(
            &format!("{name}_growth_bytes"),
            peak - first,
            "bytes RSS that the attack added, at most",
        );
        let each = (peak - first) / self.outcomes.values().sum::<u64>().max(1) as f64;
        report.add_fact(
            &format!("{name}_growth_per_connection"),
            each,
            "bytes of it for each hostile connection",
        );
    }
}

/// The server's resident bytes; 0 if its processes are not known.
fn resident(stage: &Stage) -> u64 {
    stage.arms[SERVER].processes.glance().1
}

/// Connections that were answered with a status.
fn refused(outcomes: &Outcomes) -> u64 {
    let is_status = |outcome: &str| outcome.len() == 3 && outcome.bytes().all(|byte| byte.is_ascii_digit());
    outcomes.iter().filter(|(outcome, _)| is_status(outcome)).map(|(_, count)| count).sum()
}

/// Seconds of the server's CPU during the attack, less what it used in as much time before; 0 if its processes are not known.
fn cpu_of_attack(report: &Report) -> f64 {
    let of = |name: &str| {
        let rounds =
            report.series.iter().filter(|series| series.name == name).flat_map(|series| &series.rounds);
        rounds.fold((0.0, 0.0), |(cpu_s, wall_s), round| {
            (cpu_s + round.server.total_ns as f64 / 1e9, wall_s + round.wall_s)
        })
    };
    let ((during_s, wall_s), (before_s, before_wall_s)) = (of(SERIES[0]), of(SERIES[1]));
    if before_wall_s > 0.0 { during_s - before_s / before_wall_s * wall_s } else { during_s }
}

/// What the end of a hostile connection means.
fn meaning(outcome: &str) -> &'static str {
    match outcome {
        "open" => "upgraded, and still open at the end of the attack",
        "waiting" => "not answered, and still open at the end of the attack",
        "eof" => "ended by the server without a word",
        "reset" => "ended by the server by reset",
        "unconnected" => "did not come to stand",
        "unreadable" => "ended by us: the server's bytes made no sense",
        _ if outcome.len() == 3 => "refused with this status",
        _ => "closed with this code; 1005 is none",
    }
}
