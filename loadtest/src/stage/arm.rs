//! One server of a run with all that belongs to it: started, accounted for, published to.

use std::cell::Cell;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::cli::{Common, PublishBy};
use crate::failure::Failure;
use crate::feed::Feed;
use crate::payload::Keys;
use crate::protocol::{Kind, Protocol};
use crate::publisher::{BarePublisher, CommandPublisher, HttpPublisher, NoPublisher, Publisher, WsPublisher};
use crate::server::accounts::Stat;
use crate::server::process::ServerProcess;
use crate::server::processes::Processes;
use crate::target::Target;
use crate::tls;
use crate::watch::Watch;
use crate::wire::url::Url;

/// A server with all that belongs to it.
pub struct Arm {
    /// What the workers see.
    pub target: Arc<Target>,
    /// Its processes, as far as they are on this machine.
    pub processes: Processes,
    /// How messages get in.
    pub publisher: Box<dyn Publisher>,
    /// Where the server publishes its counters, if it is tidegate.
    pub admin: Option<Url>,
    pub(super) process: Option<ServerProcess>,
}

/// A server under test as it was named: started here if there is a command for it.
pub struct Named<'a> {
    pub name: &'static str,
    pub urls: &'a [Url],
    pub spawn: Option<&'a str>,
    pub admin: &'a Url,
    /// Its processes, if the user knows them.
    pub pids: &'a [u32],
    /// What its subscribers speak.
    pub kind: Kind,
    pub compression: bool,
    pub keys: Keys,
}

/// What all servers of a run have in common.
pub struct Casting<'a> {
    pub common: &'a Common,
    pub publish: PublishBy,
    /// Whether messages are published as text.
    pub is_text: bool,
    /// Number of the next server's payloads: two may be one and the same, or nodes of one cluster.
    pub run: Cell<u32>,
    pub watch: &'a Watch,
}

impl Casting<'_> {
    fn next_run(&self) -> u32 {
        self.run.replace(self.run.get().wrapping_add(1))
    }

    /// A server under test.
    ///
    /// # Errors
    /// `Unavailable` if it does not start or is not there.
    pub fn server(&self, named: &Named<'_>) -> Result<Arm, Failure> {
        let &Named { name, urls, spawn, admin, pids, kind, compression, keys } = named;
        let common = self.common;
        let address = urls[0].address;
        let start = |command| ServerProcess::start(command, &common.server_core, address, self.watch);
        let process = spawn.map(start).transpose()?;
        let processes = if pids.is_empty() {
            let spawned: Vec<u32> = process.iter().map(ServerProcess::pid).collect();
            Processes::of(&spawned, address.ip().is_loopback().then_some(address))
        } else {
            if let Some(pid) = pids.iter().find(|&&pid| Stat::of(pid).is_none()) {
                return Err(Failure::Unavailable(format!("there is no process {pid}: check --pid")));
            }
            Processes::of(pids, None)
        };
        let channel = common.channel.clone().or_else(|| urls[0].last_segment());
        let channel = channel.unwrap_or_else(|| "bench".to_owned());
        let protocol = Protocol::new(kind, channel.clone()).map_err(Failure::Usage)?;
        let is_tls = urls.iter().any(|url| url.is_tls);
        let tls = is_tls.then(|| tls::config(common.ca.as_deref(), common.insecure)).transpose()?;
        let publisher: Box<dyn Publisher> = match &self.publish {
            PublishBy::Http => {
                let path = common.publish_url.as_ref().map(|url| url.path.clone());
                let admin = common.publish_url.as_ref().unwrap_or(admin);
                let mode = common.http_mode;
                Box::new(HttpPublisher::connect(admin.clone(), channel, mode, path, self.is_text)?)
            }
            PublishBy::Ws => {
                Box::new(WsPublisher::connect(&urls[0], protocol.clone(), protocol.opcode(self.is_text))?)
            }
            PublishBy::Command(command) => Box::new(CommandPublisher::start(command, &channel)?),
            PublishBy::Bare => Box::new(BarePublisher::connect(&[admin.address.port()])?),
            PublishBy::None => Box::new(NoPublisher),
        };
        let feed = Feed::new(self.next_run(), protocol.clone()).of_form(common.payload).about(keys);
        feed.expect_opcode(protocol.opcode(self.is_text));
        let target = Target {
            name: name.to_owned(),
            urls: urls.to_vec(),
            feed,
            protocol,
            compression,
            tls,
            publishes: self.publish != PublishBy::None,
        };
        let admin = (self.publish == PublishBy::Http).then(|| admin.clone());
        Ok(Arm { target: Arc::new(target), processes, publisher, admin, process })
    }

    /// The built-in bare server with so many threads.
    pub fn limit(&self, threads: usize) -> Result<Arm, Failure> {
        let options = &self.common.bare;
        let mut arguments = vec![
            format!("--send-buffer={}", options.send_buffer),
            format!("--receive-buffer={}", options.receive_buffer),
            format!("--notsent-lowat={}", options.notsent_lowat),
            format!("--bare-threads={threads}"),
        ];
        if let Some(plant) = options.plant {
            arguments.push(format!("--plant={plant:?}").to_lowercase());
        }
        let (process, port, controls) = ServerProcess::start_bare(&arguments, &self.common.server_core)?;
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let url = Url { address, host: address.to_string(), path: "/".into(), is_tls: false };
        let target = Target {
            name: if threads == 1 { "limit".to_owned() } else { format!("limit-{threads}") },
            urls: vec![url],
            protocol: Protocol::plain(),
            compression: false,
            tls: None,
            feed: Feed::new(self.next_run(), Protocol::plain()).of_form(self.common.payload),
            publishes: self.publish != PublishBy::None,
        };
        let publisher = Box::new(BarePublisher::connect(&controls)?);
        let processes = Processes::of(&[process.pid()], None);
        Ok(Arm { target: Arc::new(target), processes, publisher, admin: None, process: Some(process) })
    }
}
