//! One server of a run with all that belongs to it: started, accounted for, published to.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::cli::{Common, PublishBy};
use crate::failure::Failure;
use crate::feed::Feed;
use crate::protocol::{Kind, Protocol};
use crate::publisher::{BarePublisher, CommandPublisher, HttpPublisher, NoPublisher, Publisher, WsPublisher};
use crate::server::find;
use crate::server::process::ServerProcess;
use crate::target::Target;
use crate::tls;
use crate::watch::Watch;
use crate::wire::url::Url;

/// A server with all that belongs to it.
pub struct Arm {
    /// What the workers see.
    pub target: Arc<Target>,
    /// Its process, if it is on this machine.
    pub pid: Option<u32>,
    /// How messages get in.
    pub publisher: Box<dyn Publisher>,
    pub(super) process: Option<ServerProcess>,
}

/// What all servers of a run have in common.
pub struct Casting<'a> {
    pub common: &'a Common,
    pub publish: PublishBy,
    pub run: u32,
    pub watch: &'a Watch,
}

impl Casting<'_> {
    /// A server under test, started here if there is a command for it.
    pub fn server(&self, name: &str, urls: &[Url], spawn: Option<&str>, admin: &Url) -> Result<Arm, Failure> {
        let common = self.common;
        let address = urls[0].address;
        let start = |command| ServerProcess::start(command, &common.server_core, address, self.watch);
        let process = spawn.map(start).transpose()?;
        let spawned = process.as_ref().map(ServerProcess::pid);
        let pid =
            if address.ip().is_loopback() { find::listener_of(address.port()).or(spawned) } else { spawned };
        let channel = common.channel.clone().or_else(|| urls[0].last_segment());
        let channel = channel.unwrap_or_else(|| "bench".to_owned());
        let kind = if common.sse { Kind::Sse } else { common.protocol };
        let protocol = Protocol::new(kind, channel.clone()).map_err(Failure::Usage)?;
        let is_tls = urls.iter().any(|url| url.is_tls);
        let tls = is_tls.then(|| tls::config(common.ca.as_deref(), common.insecure)).transpose()?;
        let publisher: Box<dyn Publisher> = match &self.publish {
            PublishBy::Http => {
                let path = common.publish_url.as_ref().map(|url| url.path.clone());
                let admin = common.publish_url.as_ref().unwrap_or(admin);
                Box::new(HttpPublisher::connect(admin.clone(), channel, common.http_mode, path)?)
            }
            PublishBy::Ws => {
                Box::new(WsPublisher::connect(&urls[0], protocol.clone(), protocol.opcode(common.text))?)
            }
            PublishBy::Command(command) => Box::new(CommandPublisher::start(command, &channel)?),
            PublishBy::Bare => Box::new(BarePublisher::connect(&[admin.address.port()])?),
            PublishBy::None => Box::new(NoPublisher),
        };
        let target = Target {
            name: name.to_owned(),
            urls: urls.to_vec(),
            feed: Feed::new(self.run, protocol.clone()),
            protocol,
            tls,
            publishes: self.publish != PublishBy::None,
        };
        Ok(Arm { target: Arc::new(target), pid, publisher, process })
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
            tls: None,
            feed: Feed::new(self.run, Protocol::plain()),
            publishes: self.publish != PublishBy::None,
        };
        let publisher = Box::new(BarePublisher::connect(&controls)?);
        Ok(Arm { target: Arc::new(target), pid: Some(process.pid()), publisher, process: Some(process) })
    }
}
