use crate::{
    ChunkedDecoder, Event, HeadScanner, Limits, Offence, RequestFraming, RequestHead, Scan,
};

/// The smallest driver of the pure half: what a connection does with its bytes, without a socket.
#[derive(Debug, Default)]
struct Inbound {
    buffer: Vec<u8>,
    scanner: HeadScanner,
    head: RequestHead,
    body: Body,
    decoder: ChunkedDecoder,
    /// Everything observable, in order; data of one body is joined.
    log: Vec<String>,
    data: Vec<u8>,
    offence: Option<Offence>,
}

#[derive(Debug, Default, PartialEq)]
pub(super) enum Body {
    #[default]
    None,
    Sized(u64),
    Chunked,
}

impl Inbound {
    fn feed(&mut self, bytes: &[u8], limits: &Limits) {
        self.buffer.extend_from_slice(bytes);
        while self.offence.is_none() {
            match self.step(limits) {
                Ok(true) => {}
                Ok(false) => break,
                Err(offence) => self.offence = Some(offence),
            }
        }
    }

    /// One step; `false` when it waits for bytes.
    fn step(&mut self, limits: &Limits) -> Result<bool, Offence> {
        match self.body {
            Body::None => {
                let Scan::Complete { skip, len } = self.scanner.scan(&self.buffer, limits)? else {
                    return Ok(false);
                };
                self.head.parse(&self.buffer[skip..skip + len], limits)?;
                self.buffer.drain(..skip + len);
                self.scanner.reset();
                let framing = RequestFraming::of(&self.head)?;
                framing.check(limits.body)?;
                let headers: Vec<_> = self.head.headers().collect();
                let keep = crate::keep_alive(&self.head);
                let host = self.head.host();
                self.log.push(format!(
                    "{:?} {:?} {host:?} {headers:?} {framing:?} {keep}",
                    self.head.method(),
                    self.head.target()
                ));
                crate::expects_continue(&self.head)?;
                self.body = match framing {
                    RequestFraming::Chunked => Body::Chunked,
                    RequestFraming::Sized(length @ 1..) => Body::Sized(length),
                    _ => Body::None,
                };
            }
            Body::Sized(left) => {
                let here = self.buffer.len().min(usize::try_from(left).unwrap());
                self.data.extend(self.buffer.drain(..here));
                if (here as u64) < left {
                    self.body = Body::Sized(left - here as u64);
                    return Ok(false);
                }
                self.end_of_body();
            }
            Body::Chunked => {
                let step = self.decoder.decode(&self.buffer, limits)?;
                if let Event::Data(range) = step.event.clone() {
                    self.data.extend_from_slice(&self.buffer[range]);
                }
                self.buffer.drain(..step.consumed);
                match step.event {
                    Event::NeedMore => return Ok(false),
                    Event::Data(_) => {}
                    Event::Done => {
                        self.log.push(format!("{:?}", self.decoder.trailers().collect::<Vec<_>>()));
                        self.decoder.reset();
                        self.end_of_body();
                    }
                }
            }
        }
        Ok(true)
    }

    fn end_of_body(&mut self) {
        self.log.push(format!("{:?}", self.data));
        self.data.clear();
        self.body = Body::None;
    }
}

/// What a connection logs, has left of a body, refuses, and waits for, when its bytes come cut at
/// `cuts`.
pub(super) fn verdict(
    bytes: &[u8],
    cuts: &[usize],
    limits: &Limits,
) -> (Vec<String>, Vec<u8>, Option<Offence>, Body) {
    let mut inbound = Inbound::default();
    let mut cuts: Vec<_> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
    cuts.sort_unstable();
    cuts.push(bytes.len());
    let mut start = 0;
    for cut in cuts {
        inbound.feed(&bytes[start..cut], limits);
        start = cut;
    }
    (inbound.log, inbound.data, inbound.offence, inbound.body)
}
