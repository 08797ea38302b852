//! What processes want done, and how messages travel.

use super::{
    Address, Call, ContactFailure, Effect, Failure, Happening, Host, MemberId, Message, Passage, ProcessId, Record,
    RequestId, Simulation, Timestamp, Totals, encoded_len,
};

impl Simulation {
    pub(super) fn perform(&mut self, id: ProcessId, effect: Effect) {
        match effect {
            Effect::Send { to, message, .. } => self.send(id, to, message),
            Effect::SetTimer { epoch, after } => {
                let after = self.processes[id.index()].clock.real(after);
                self.queue.push(self.now + after, Happening::Timer { process: id, epoch });
            }
            Effect::Join { address, joiner } => self.ask(id, &address, joiner),
            Effect::AnswerJoin { request, answer } => {
                let Some(Call { asker, host }) = self.calls.get(&request) else { return };
                let asker = self.processes[asker.index()].host;
                if let Passage::Once(after) | Passage::Twice(after, _) = self.network.pass(*host, asker) {
                    self.queue.push(self.now + after, Happening::Answer { request, answer: Ok(answer) });
                }
            }
        }
    }

    pub(super) fn send(&mut self, from: ProcessId, to: MemberId, message: Message) {
        let Some(target) = self.process_of(to) else { return };
        let totals: &mut Totals = &mut self.history.totals;
        totals.messages += 1;
        totals.bytes += encoded_len(&message) as u64;
        totals.syncs += u64::from(matches!(message, Message::Sync { .. }));
        let (here, there) = (self.processes[from.index()].host, self.processes[target.index()].host);
        match self.network.pass(here, there) {
            Passage::Lost => self.history.totals.lost += 1,
            Passage::Cut => {
                self.history.totals.lost += 1;
                let failure = Happening::Failure { process: from, member: to, failure: Failure::Unreachable };
                self.queue.push(self.now + self.network.config().unreachable_after, failure);
            }
            Passage::Once(after) => {
                self.queue.push(self.now + after, Happening::Message { from, to: target, message });
            }
            Passage::Twice(after, again) => {
                let copy = Happening::Message { from, to: target, message: message.clone() };
                self.queue.push(self.now + after, copy);
                self.queue.push(self.now + again, Happening::Message { from, to: target, message });
            }
        }
    }

    /// What the sender notices when the process is not there any more.
    pub(super) fn not_delivered(&mut self, from: ProcessId, to: ProcessId) {
        let (here, there) = (self.processes[from.index()].host, self.processes[to.index()].host);
        let member = self.processes[to.index()].id;
        let state = &self.hosts[there.index()];
        let (failure, after) = match state.process {
            _ if state.gone || self.network.is_cut(there, here) => {
                (Failure::Unreachable, self.network.config().unreachable_after)
            }
            Some(process) => (Failure::Superseded(self.processes[process.index()].id), self.network.latency()),
            None => (Failure::Refused, self.network.latency()),
        };
        self.queue.push(self.now + after, Happening::Failure { process: from, member, failure });
    }

    pub(super) fn ask(&mut self, asker: ProcessId, address: &Address, joiner: Record) {
        let Some(host) = self.by_address.get(address).copied() else { return };
        self.requests += 1;
        let request = RequestId::new(self.requests);
        self.calls.insert(request, Call { asker, host });
        let here = self.processes[asker.index()].host;
        let limit = self.now + self.network.config().answer_timeout;
        let silent = Err(ContactFailure::Unreachable("no answer".into()));
        self.queue.push(limit, Happening::Answer { request, answer: silent });
        if let Passage::Once(after) | Passage::Twice(after, _) = self.network.pass(here, host) {
            let at = self.now + after;
            match self.hosts[host.index()].process {
                Some(process) => self.queue.push(at, Happening::Ask { asker: process, request, joiner }),
                None if self.hosts[host.index()].gone => {}
                None => self.refuse_call_at(at, request, host, here),
            }
        }
    }

    pub(super) fn refuse_call(&mut self, request: RequestId) {
        let Some(Call { asker, host }) = self.calls.get(&request) else { return };
        let (host, asker) = (*host, self.processes[asker.index()].host);
        if !self.hosts[host.index()].gone {
            self.refuse_call_at(self.now, request, host, asker);
        }
    }

    pub(super) fn refuse_call_at(&mut self, at: Timestamp, request: RequestId, from: Host, to: Host) {
        if !self.network.is_cut(from, to) {
            let refused = Err(ContactFailure::Unreachable("connection refused".into()));
            let at = at + self.network.latency();
            self.queue.push(at, Happening::Answer { request, answer: refused });
        }
    }
}
