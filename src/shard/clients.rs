//! Who a client is, and whether its address may have another connection (GUARANTEES A21, C4).
//!
//! A client is who the socket's other end is, unless that is a trusted proxy which says who it speaks for: in a PROXY
//! header before the first request, in a header of each request, or in both. What is known of a connection beyond its
//! socket is kept on the side, by slot: one that came directly from an address without limits costs nothing here.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use super::connection::{Mark, Phase};
use super::reactor::Reactor;
use super::turn::Shard;
use crate::edge::{ProxyHeader, read_proxy_header};
use crate::model::{Blame, Cause, CloseReason, End, RejectReason, Traffic};
use crate::net::{Admission, Ticket, Transport};

/// What is known of connections beyond their sockets.
#[derive(Debug, Default)]
pub struct Clients {
    /// The client, by slot, where a trusted proxy said who it is.
    told: HashMap<u32, SocketAddr>,
    /// Where the address is counted, by slot; as long as the highest slot that had one.
    tickets: Vec<Ticket>,
}

impl Clients {
    /// Whether nothing is known of anybody. Linear in the slots.
    pub fn is_empty(&self) -> bool {
        self.told.is_empty() && self.tickets.iter().all(|ticket| *ticket == 0)
    }
}

/// What is known of a socket when it is accepted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Arrival {
    /// It comes from a trusted proxy.
    pub is_from_proxy: bool,
    /// Whether its address may have it.
    pub admission: Admission,
}

impl<R: Reactor> Shard<R> {
    /// Looks at where a new socket comes from, if that makes a difference.
    ///
    /// # Errors
    /// Why it is to be reset at once.
    pub(super) fn look_at(&self, peer: Option<SocketAddr>) -> Result<Arrival, CloseReason> {
        let config = &self.config;
        let uncounted = |is_from_proxy| Arrival { is_from_proxy, admission: Admission::Granted(0) };
        if config.trusted_proxies.is_empty() && self.budget.addresses().is_none() {
            return Ok(uncounted(false));
        }
        let peer = peer.map(|peer| peer.ip());
        if peer.is_some_and(|peer| config.trusts(peer)) {
            return Ok(uncounted(true));
        }
        if config.proxy_protocol {
            return Err(CloseReason::ProxyUntrusted);
        }
        let admission = peer.map_or(Admission::Granted(0), |peer| self.admit(peer));
        if admission == Admission::Flood {
            return Err(CloseReason::AddressFlood);
        }
        Ok(Arrival { is_from_proxy: false, admission })
    }

    /// Counts another connection of `address`, if it is one that is limited.
    fn admit(&self, address: IpAddr) -> Admission {
        match self.budget.addresses() {
            Some(addresses) if self.config.limits(address) => addresses.take(address, self.now),
            _ => Admission::Granted(0),
        }
    }

    /// Ends a socket before it becomes a connection, without a word. It counts as accepted and closed.
    pub(super) fn turn_away(&mut self, mut socket: R::Socket, peer: Option<SocketAddr>, reason: CloseReason) {
        socket.reset_on_close();
        drop(socket);
        self.counters.count_close(reason, Blame::Peer);
        self.ends.note(End {
            cause: Cause::Close(reason, Blame::Peer),
            at: self.now,
            shard: self.id,
            connection: None,
            peer,
            traffic: Traffic::new(self.now),
        });
    }

    /// Keeps what `admission` says of the connection in `slot`; the reason if it is to be refused.
    pub(super) fn note_admission(&mut self, slot: u32, admission: Admission) -> Option<RejectReason> {
        let (ticket, reason) = match admission {
            Admission::Granted(ticket) => (ticket, None),
            Admission::Refused(ticket, reason) => (ticket, Some(reason)),
            // It is there already, and a word to its proxy costs no more than its end.
            Admission::Flood => (0, Some(RejectReason::AddressConnections)),
        };
        if reason.is_some()
            && let Some(connection) = self.slots.get_mut(slot)
        {
            connection.marks.set(Mark::OverAddress);
        }
        let place = slot as usize;
        if ticket != 0 {
            if self.clients.tickets.len() <= place {
                self.clients.tickets.resize(place + 1, 0);
            }
            self.clients.tickets[place] = ticket;
        }
        reason
    }

    /// A trusted proxy says that it speaks for `client` in `slot`, from here on; false if the client was refused.
    pub(super) fn note_client(&mut self, slot: u32, client: SocketAddr) -> bool {
        if self.clients.told.insert(slot, client).is_some_and(|before| before.ip() == client.ip()) {
            // The same, on a connection that is kept.
            return true;
        }
        self.give_ticket_back(slot);
        let admission = self.admit(client.ip());
        let Some(reason) = self.note_admission(slot, admission) else { return true };
        let retry_after_s = self.retry_after_seconds();
        self.refuse(slot, reason, Some(retry_after_s));
        false
    }

    /// A trusted proxy does not say who the request in `slot` comes from.
    pub(super) fn forget_client(&mut self, slot: u32) {
        if self.clients.told.remove(&slot).is_some() {
            self.give_ticket_back(slot);
        }
    }

    /// The slot is empty from here on.
    pub(super) fn forget_slot(&mut self, slot: u32) {
        self.give_ticket_back(slot);
        if !self.clients.told.is_empty() {
            self.clients.told.remove(&slot);
        }
    }

    fn give_ticket_back(&mut self, slot: u32) {
        let Some(ticket) = self.clients.tickets.get_mut(slot as usize) else { return };
        let was_refused =
            self.slots.get(slot).is_some_and(|connection| connection.marks.has(Mark::OverAddress));
        if let Some(addresses) = self.budget.addresses() {
            addresses.give_back(std::mem::take(ticket), was_refused);
        }
    }

    /// The client in `slot`: who a trusted proxy says it is, else the other end of the socket while that is known.
    pub(super) fn client(&self, slot: u32) -> Option<SocketAddr> {
        self.told_client(slot).or_else(|| self.slots.get(slot)?.peer())
    }

    /// Who a trusted proxy says the client in `slot` is.
    pub(super) fn told_client(&self, slot: u32) -> Option<SocketAddr> {
        if self.clients.told.is_empty() { None } else { self.clients.told.get(&slot).copied() }
    }

    /// Bytes of a connection that has to begin with a PROXY header, and of what follows it.
    pub(super) fn handle_proxy_header_bytes(&mut self, slot: u32, input: &[u8]) {
        let Some(connection) = self.slots.get_mut(slot) else { return };
        let Phase::Http(http) = &mut connection.phase else { return };
        http.buffer.extend_from_slice(input);
        match read_proxy_header(&http.buffer) {
            Ok(ProxyHeader::NeedMore) => {}
            Ok(ProxyHeader::Complete { length, client }) => {
                let rest = http.buffer.split_off(length);
                http.buffer = Vec::new();
                http.awaits_proxy_header = false;
                if let Some(client) = client {
                    // A proxy in front of the proxy may be trusted too; anybody else is taken by the header alone.
                    http.is_from_proxy = self.config.trusts(client.ip());
                    if !self.note_client(slot, client) {
                        return;
                    }
                }
                self.handle_request_bytes(slot, &rest);
            }
            Err(_) => {
                connection.socket.reset_on_close();
                self.end(slot, CloseReason::ProxyHeader, Blame::Peer);
            }
        }
    }
}
