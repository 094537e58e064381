//! The processes of one server, and what they use together: whoever holds a listening socket of its address, and
//! what it was started as with all descendants. A process that only watches over the others is one of them. This
//! process never is, nor what it started besides.
//!
//! Reading their accounts is a small file and a call for each; finding them reads all of `/proc`, and so is done
//! when a server is met, before the first round, at each look at its memory, and once one of them has ended.
//! CPU time never goes back: what has ended counts as it was last seen. A process that came later counts from its
//! first moment on, but only once it is found. So a worker that is replaced during a round costs that round what
//! both used, but for what the old one used after the last look.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::accounts::{self, CpuTime, Memory, Stat};
use super::find::Listening;
use crate::failure::Failure;

/// The processes of a server. Clones share what they know.
#[derive(Clone, Debug)]
pub struct Processes {
    /// What it was started as: number and start of each.
    roots: Vec<Id>,
    /// Where on this machine it listens.
    address: Option<SocketAddr>,
    set: Arc<Mutex<Set>>,
}

/// Number and start, in clock ticks, of a process.
type Id = (u32, u64);

#[derive(Debug, Default)]
struct Set {
    living: Vec<Member>,
    /// CPU time of those that have ended, as last seen.
    ended: CpuTime,
    /// Whether there ever was one.
    is_known: bool,
    /// Whether one has ended since they were found.
    is_outdated: bool,
    /// Whether somebody listens whom we may not see.
    is_hidden: bool,
}

#[derive(Debug)]
struct Member {
    id: Id,
    cpu: CpuTime,
}

impl Processes {
    /// Those below `roots`, and those that listen on `address` of this machine; none of both is a server elsewhere.
    pub fn of(roots: &[u32], address: Option<SocketAddr>) -> Self {
        let stats = roots.iter().filter_map(|&pid| Stat::of(pid));
        let processes =
            Self { roots: stats.map(|stat| id_of(&stat)).collect(), address, set: Arc::default() };
        processes.find();
        processes
    }

    /// Looks through this machine for those that have come since. Takes milliseconds.
    pub fn find(&self) {
        self.find_in(&mut self.lock());
    }

    /// CPU time of all until now; zero if no process is known.
    ///
    /// # Errors
    /// `Unavailable` when all are gone.
    pub fn cpu(&self) -> Result<CpuTime, Failure> {
        let mut set = self.lock();
        set.look();
        if set.is_outdated {
            self.find_in(&mut set);
        }
        if set.is_known && set.living.is_empty() {
            let pids: Vec<String> = self.roots.iter().map(|(pid, _)| pid.to_string()).collect();
            let which = if pids.is_empty() { String::new() } else { format!(" {}", pids.join(", ")) };
            return Err(Failure::Unavailable(format!("the server process{which} is gone: see its log")));
        }
        Ok(set.cpu())
    }

    /// CPU time and resident bytes of those that were last found, by the cheapest accounts there are; zero if none is known.
    pub fn glance(&self) -> (CpuTime, u64) {
        let mut set = self.lock();
        set.look();
        (set.cpu(), set.living.iter().map(|member| accounts::rss_of(member.id.0)).sum())
    }

    /// Memory of all that there are now; `None` if no process is known.
    pub fn memory(&self) -> Option<Memory> {
        self.find();
        self.pids().into_iter().filter_map(Memory::of).reduce(Memory::and)
    }

    /// Open descriptors of those that were last found; `None` if we may not see them of all.
    pub fn descriptors(&self) -> Option<usize> {
        self.pids().into_iter().map(accounts::descriptors).sum()
    }

    /// Threads of those that were last found.
    pub fn threads(&self) -> usize {
        self.pids().into_iter().map(accounts::threads).sum()
    }

    /// How many were last found.
    pub fn count(&self) -> usize {
        self.lock().living.len()
    }

    /// Whether somebody listens on the port whom we may not see.
    pub fn are_hidden(&self) -> bool {
        self.lock().is_hidden
    }

    /// Numbers of those that were last found.
    pub fn pids(&self) -> Vec<u32> {
        self.lock().living.iter().map(|member| member.id.0).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Set> {
        self.set.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find_in(&self, set: &mut Set) {
        let listening = self.address.map(Listening::on).unwrap_or_default();
        set.look();
        let all = Stat::of_all();
        let mut children: HashMap<u32, Vec<&Stat>> = HashMap::new();
        for stat in &all {
            children.entry(stat.parent).or_default().push(stat);
        }
        let living: HashSet<Id> = set.living.iter().map(|member| member.id).collect();
        let is_seed = |stat: &&Stat| !self.roots.is_empty() && living.contains(&id_of(stat));
        let mut waiting: Vec<&Stat> =
            all.iter().filter(|stat| self.roots.contains(&id_of(stat)) || is_seed(stat)).collect();
        let mut found: HashSet<u32> = HashSet::new();
        // Whatever the roots are, our own process and what is below it stay out.
        let is_new =
            |stat: &Stat, found: &mut HashSet<u32>| stat.pid != std::process::id() && found.insert(stat.pid);
        while let Some(stat) = waiting.pop() {
            if is_new(stat, &mut found) {
                waiting.extend(children.get(&stat.pid).into_iter().flatten());
            }
        }
        for stat in &all {
            let is_open = !living.contains(&id_of(stat)) && !found.contains(&stat.pid);
            if is_open && stat.pid != std::process::id() && listening.is_held_by(stat.pid) {
                found.insert(stat.pid);
            }
        }
        for stat in all.iter().filter(|stat| found.contains(&stat.pid) && !stat.has_ended) {
            if let Some(cpu) = stat.cpu().filter(|_| !living.contains(&id_of(stat))) {
                set.living.push(Member { id: id_of(stat), cpu });
            }
        }
        set.is_known |= !set.living.is_empty() || !self.roots.is_empty();
        set.is_hidden = !listening.is_empty() && set.living.is_empty();
        set.is_outdated = false;
    }
}

impl Set {
    /// Reads the CPU time of all that were found, and parts with those that have ended.
    fn look(&mut self) {
        let Self { living, ended, is_outdated, .. } = self;
        living.retain_mut(|member| {
            let stat = Stat::of(member.id.0).filter(|stat| id_of(stat) == member.id);
            if let Some(cpu) = stat.as_ref().and_then(Stat::cpu) {
                member.cpu = cpu;
            }
            let is_alive = stat.is_some_and(|stat| !stat.has_ended);
            if !is_alive {
                *ended += member.cpu;
                *is_outdated = true;
            }
            is_alive
        });
    }

    fn cpu(&self) -> CpuTime {
        let mut sum = self.ended;
        self.living.iter().for_each(|member| sum += member.cpu);
        sum
    }
}

fn id_of(stat: &Stat) -> Id {
    (stat.pid, stat.started_ticks)
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::net::TcpListener;
    use std::process::{Child, Command, Stdio};

    use super::*;

    /// A shell that we talk to; dropping it ends it and what it started.
    struct Shell(Child);

    impl Shell {
        fn start(script: &str) -> Self {
            let mut command = Command::new("sh");
            command.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped());
            Self(command.spawn().unwrap())
        }

        fn pid(&self) -> u32 {
            self.0.id()
        }

        fn line(&mut self) -> String {
            let mut line = String::new();
            BufReader::new(self.0.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
            line.trim().to_owned()
        }

        fn say(&mut self, line: &str) {
            writeln!(self.0.stdin.as_mut().unwrap(), "{line}").unwrap();
        }
    }

    impl Drop for Shell {
        fn drop(&mut self) {
            let below = Processes::of(&[self.pid()], None).pids();
            if !below.is_empty() {
                let _ = Command::new("kill").arg("-KILL").args(below.iter().map(u32::to_string)).status();
            }
            let _ = self.0.wait();
        }
    }

    #[test]
    fn descendants_count_and_replaced_ones_are_found_without_losing_what_they_used() {
        // A worker that has used a second of a core's time in some share, and waits; then another.
        let work = "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; echo done; read x";
        let mut shell = Shell::start(&format!("sh -c '{work}; exit'; sh -c '{work}; exit'; :"));
        assert_eq!(shell.line(), "done");
        let processes = Processes::of(&[shell.pid()], None);
        let first = processes.cpu().unwrap();
        assert_eq!(
            (processes.count(), processes.descriptors() >= Some(6), processes.threads()),
            (2, true, 2)
        );
        let parent = Stat::of(shell.pid()).unwrap().cpu().unwrap();
        assert!(first.total_ns > parent.total_ns, "{first:?} {parent:?}");
        let alone = Memory::of(shell.pid()).unwrap();
        assert!(processes.memory().unwrap().rss > alone.rss);

        shell.say("go");
        assert_eq!(shell.line(), "done");
        processes.find();
        let worker = processes.pids().into_iter().find(|pid| *pid != shell.pid()).expect("a worker");
        let worker = Stat::of(worker).unwrap().cpu().unwrap();
        let second = processes.cpu().unwrap();
        assert_eq!(processes.count(), 2, "the one that replaced it was found");
        assert!(
            worker.total_ns > 0 && second.total_ns >= first.total_ns + worker.total_ns,
            "{first:?} {second:?} {worker:?}"
        );
    }

    #[test]
    fn processes_that_are_all_gone_are_told() {
        let mut shell = Shell::start("read x");
        let processes = Processes::of(&[shell.pid()], None);
        assert!(processes.cpu().is_ok());
        shell.say("go");
        shell.0.wait().unwrap();
        let Err(Failure::Unavailable(text)) = processes.cpu() else { panic!("it is gone") };
        assert_eq!(text, format!("the server process {} is gone: see its log", shell.pid()));
        assert_eq!((processes.glance().1, processes.count()), (0, 0));
    }

    #[test]
    fn our_own_process_is_never_one_of_them() {
        let parent = Stat::of(std::process::id()).unwrap().parent;
        let mut shell = Shell::start("echo up; read x");
        assert_eq!(shell.line(), "up");
        let pids = Processes::of(&[parent], None).pids();
        assert!(pids.contains(&parent), "{parent} is not in {pids:?}");
        assert!(!pids.contains(&std::process::id()) && !pids.contains(&shell.pid()), "{pids:?}");
    }

    #[test]
    fn a_listener_that_cannot_be_seen_is_told_and_has_no_figures() {
        // Our own process is left out, and so stands for one of another user.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let processes = Processes::of(&[], Some(listener.local_addr().unwrap()));
        assert!(processes.are_hidden());
        assert_eq!(processes.cpu().unwrap(), CpuTime::default());
        assert!(processes.memory().is_none());
        assert!(!Processes::of(&[], None).are_hidden());
    }
}
