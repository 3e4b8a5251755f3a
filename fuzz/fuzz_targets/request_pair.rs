//! What a client sends, through us, to an upstream that records what it reads: the requests that we
//! read, each with the body that we read, whatever the rules of the route are.
//!
//! Input: the number of the rules (see [`rules`]), LF, and what the client sends.

#![no_main]
#![forbid(unsafe_code)]

use libfuzzer_sys::fuzz_target;
use sluicegate_fuzz::first_line;
use sluicegate_fuzz::recorder::{Message, Recorder};
use sluicegate_http::client::forward::{
    Forwarded, HostOf, Onward, RequestRules, request_head, trailers_of, upgrade_asked,
};
use sluicegate_http::{
    CRLF, ChunkedDecoder, Endpoints, Event, Fields, HeadScanner, LAST_CHUNK, Limits, Method,
    Offence, RequestFraming, RequestHead, Scan, Version, chunk_head, expects_continue,
    normalise_onward,
};

fuzz_target!(|input: &[u8]| {
    let (line, bytes) = first_line(input);
    let number = str::from_utf8(line).ok().and_then(|line| line.trim().parse().ok()).unwrap_or(0);
    let (rule, rules) = rules(number);
    let mut flow = Flow { rule, rules, ..Flow::default() };
    let mut rest = bytes;
    while let Ok(true) = flow.next(&mut rest) {}
    let mut recorder = Recorder { rest: &flow.out };
    for expected in &flow.read {
        let Some(message) = recorder.message(|_| true) else { panic!("a request is missing") };
        flow.check(&message, expected);
    }
    assert!(recorder.rest.is_empty(), "more requests than were read");

    // Our own parsers read the same of what we write, where their limits leave room for our fields.
    let limits = Limits { headers: 2 * Limits::default().headers, ..Limits::default() };
    let mut again = Flow { limits, ..Flow::default() };
    let mut rest = flow.out.as_slice();
    while let Ok(true) = again.next(&mut rest) {}
    assert!(rest.is_empty(), "our own parsers refuse what we write");
    let bodies: Vec<_> = flow.read.iter().map(|read| &read.body).collect();
    assert_eq!(Vec::from_iter(&again.bodies), bodies);
});

/// A request as we have read it.
#[derive(Debug, Default)]
struct Read {
    method: String,
    path: Vec<u8>,
    ends_with_slash: bool,
    query: Option<String>,
    host: Option<String>,
    body: Vec<u8>,
    upgrade: Option<Vec<u8>>,
    is_http10: bool,
    /// Names that the client sent.
    names: Vec<String>,
}

#[derive(Debug, Default)]
struct Flow {
    rule: Rule,
    rules: RequestRules,
    limits: Limits,
    out: Vec<u8>,
    /// What went on.
    read: Vec<Read>,
    /// Bodies of all requests that were read.
    bodies: Vec<Vec<u8>>,
}

/// What the rules were made of.
#[derive(Clone, Copy, Debug, Default)]
struct Rule {
    forwarded: Forwarded,
    strip: &'static str,
    host: usize,
    sets: bool,
}

/// Each part is a digit of the number, in a base of its own.
fn rules(number: usize) -> (Rule, RequestRules) {
    let forwarded = [Forwarded::Replace, Forwarded::Append, Forwarded::Rfc7239, Forwarded::Off];
    let rule = Rule {
        forwarded: forwarded[number % 4],
        strip: ["", "app", "a/b"][number / 4 % 3],
        host: number / 12 % 3,
        sets: number / 36 % 2 == 1,
    };
    let hosts = [HostOf::Client, HostOf::Upstream, HostOf::Fixed("fixed.test".to_owned())];
    let upgrade = number / 72 % 2 == 0;
    let host = hosts[rule.host].clone();
    let mut rules = RequestRules::new(host, rule.forwarded, rule.strip.as_bytes(), upgrade);
    if rule.sets {
        let mut set = Fields::default();
        for (name, value) in [("X-User", "us"), ("Authorization", "ours"), ("Host", "not this")] {
            assert_eq!(set.add(name, value), Ok(()));
        }
        rules = rules.with_fields(&set, &["Cookie".to_owned(), "x-a".to_owned()]);
    }
    (rule, rules)
}

const PEER: &str = "203.0.113.9:7";

impl Flow {
    /// Passes the next request on. False where the client has sent no more that is whole.
    fn next(&mut self, rest: &mut &[u8]) -> Result<bool, Offence> {
        let limits = &self.limits;
        let Scan::Complete { skip, len } = HeadScanner::new().scan(rest, limits)? else {
            return Ok(false);
        };
        let mut head = RequestHead::new();
        head.parse(&rest[skip..skip + len], limits)?;
        let framing = RequestFraming::of(&head)?;
        framing.check(limits.body)?;
        expects_continue(&head)?;
        let mut body = &rest[skip + len..];
        let mut decoder = ChunkedDecoder::new();
        let Some(content) = content(framing, &mut decoder, &mut body, limits)? else {
            return Ok(false);
        };
        *rest = body;
        self.bodies.push(content.clone());
        let mut room = Vec::new();
        // What has no normal form, and what is refused, is answered here.
        let Ok(path) = normalise_onward(head.path(), &mut room) else { return Ok(true) };
        let endpoints = Endpoints { peer: PEER.parse().ok(), ..Endpoints::default() };
        let (endpoints, authority) = (&endpoints, "app.test");
        let onward = Onward { endpoints, path: &path, authority, framing, closes: false };
        let mark = self.out.len();
        if request_head(&mut self.out, &head, &self.rules, &onward).is_err() {
            assert_eq!(self.out.len(), mark, "something is left of what was refused");
            return Ok(true);
        }
        send(&mut self.out, &content, framing == RequestFraming::Chunked, &trailers_of(&decoder));
        let upgrade = upgrade_asked(&head, &self.rules, framing);
        assert!(upgrade.is_none() || head.method() == Method::Get);
        self.read.push(Read {
            method: head.method_str().to_owned(),
            path: path.as_bytes().to_vec(),
            ends_with_slash: path.ends_with_slash(),
            query: head.query().map(str::to_owned),
            host: head.host().map(str::to_owned),
            body: content,
            upgrade: upgrade.map(<[u8]>::to_vec),
            is_http10: head.version() == Version::Http10,
            names: head.headers().map(|(name, _)| name.to_ascii_lowercase()).collect(),
        });
        // After an upgrade nobody knows what the bytes are.
        Ok(upgrade.is_none())
    }

    fn check(&self, message: &Message, read: &Read) {
        let words: Vec<_> = message.line.split(' ').collect();
        let [method, target, "HTTP/1.1"] = words[..] else { panic!("another line") };
        assert_eq!((method, &message.body), (read.method.as_str(), &read.body));

        // The same path, without its prefix, to whoever decodes it and to whoever does not.
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query.to_owned())),
            None => (target, None),
        };
        assert_eq!(query, read.query);
        assert!(path.starts_with('/') && !path.starts_with("//"));
        assert!(path.split('/').all(|segment| !matches!(segment, "." | "..")));
        let mut room = Vec::new();
        let Ok(normal) = normalise_onward(path, &mut room) else {
            panic!("a path of no normal form")
        };
        let mut whole = read.path.clone();
        whole.push(b'/');
        let prefix = format!("{}/", self.rule.strip);
        let expected = match whole.strip_prefix(prefix.as_bytes()) {
            Some(rest) if !self.rule.strip.is_empty() => rest.strip_suffix(b"/").unwrap_or(rest),
            _ => read.path.as_slice(),
        };
        assert_eq!(normal.as_bytes(), expected, "another path");
        assert!(normal.is_root() || normal.ends_with_slash() == read.ends_with_slash);

        // Who takes encoded slashes for slashes finds no segment that leads elsewhere.
        let decoded = path.replace("%2F", "/").replace("%2f", "/");
        let segments = decoded.split('/').filter(|segment| !segment.is_empty()).count();
        let mut flat = Vec::new();
        let flat = normalise_onward(&decoded, &mut flat).map(|flat| flat.segments().count());
        assert_eq!(flat, Ok(segments), "a hidden dot segment");

        let host = match self.rule.host {
            0 => read.host.as_deref().unwrap_or("app.test"),
            1 => "app.test",
            _ => "fixed.test",
        };
        assert_eq!(message.values("host"), [host.as_bytes()], "another host");
        self.fields(message, read);
    }

    fn fields(&self, message: &Message, read: &Read) {
        for (name, _) in &message.fields {
            assert!(!name.contains('_'), "a name that stands in for another");
            let is_known = read.names.contains(name);
            let ours = ["host", "via", "x-user", "authorization", "connection", "te", "forwarded"];
            let is_told = name.starts_with("x-forwarded-");
            assert!(is_known || is_told || ours.contains(&name.as_str()), "{name} is nobody's");
        }
        let never = "expect keep-alive proxy proxy-authorization proxy-connection http2-settings";
        for name in never.split(' ') {
            assert_eq!(message.values(name).len(), 0, "{name} went on");
        }
        let options = message.values("connection");
        assert!(options.len() <= 1);
        assert_eq!(message.values("upgrade"), Vec::from_iter(read.upgrade.as_deref()));
        assert_eq!(read.upgrade.is_some(), options == [b"upgrade"]);
        assert_eq!(message.values("te").is_empty(), options != [b"TE"]);
        let told = message.values("x-forwarded-for");
        let peer = b"203.0.113.9";
        match self.rule.forwarded {
            Forwarded::Replace => assert_eq!(told, [peer]),
            Forwarded::Append => assert!(told.len() == 1 && told[0].ends_with(peer)),
            Forwarded::Rfc7239 => {
                let tells = |name: &str| name == "x-real-ip" || name.starts_with("x-forwarded-");
                assert!(!message.fields.iter().any(|(name, _)| tells(name)));
                let told = message.values("forwarded");
                assert!(told.len() == 1 && told[0].starts_with(b"for=203.0.113.9;"));
            }
            Forwarded::Off => {}
        }
        if self.rule.sets {
            assert_eq!(message.values("x-user"), [b"us"]);
            assert_eq!(message.values("authorization"), [b"ours"]);
            assert!(message.values("cookie").is_empty() && message.values("x-a").is_empty());
        }
        let via: &[u8] = if read.is_http10 { b"1.0 sluicegate" } else { b"1.1 sluicegate" };
        assert_eq!(message.values("via").last(), Some(&via));
        let forbidden = ["host", "content-length", "transfer-encoding", "cookie", "authorization"];
        assert!(!message.trailers.iter().any(|name| forbidden.contains(&name.as_str())));
    }
}

/// The body at the start of `rest`, if it is whole.
fn content(
    framing: RequestFraming,
    decoder: &mut ChunkedDecoder,
    rest: &mut &[u8],
    limits: &Limits,
) -> Result<Option<Vec<u8>>, Offence> {
    match framing {
        RequestFraming::None => Ok(Some(Vec::new())),
        RequestFraming::Sized(length) => {
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            let Some((content, after)) = rest.split_at_checked(length) else { return Ok(None) };
            *rest = after;
            Ok(Some(content.to_vec()))
        }
        RequestFraming::Chunked => {
            let mut content = Vec::new();
            loop {
                let step = decoder.decode(rest, limits)?;
                if let Event::Data(range) = &step.event {
                    content.extend_from_slice(&rest[range.clone()]);
                }
                *rest = &rest[step.consumed..];
                match step.event {
                    Event::NeedMore => return Ok(None),
                    Event::Done => return Ok(Some(content)),
                    Event::Data(_) => {}
                }
            }
        }
    }
}

/// A body, as we send it.
fn send(out: &mut Vec<u8>, content: &[u8], chunked: bool, trailers: &Fields) {
    if !chunked {
        out.extend_from_slice(content);
        return;
    }
    for piece in content.chunks(11) {
        for part in [chunk_head(piece.len() as u64).as_bytes(), piece, CRLF] {
            out.extend_from_slice(part);
        }
    }
    out.extend_from_slice(&LAST_CHUNK[..3]);
    out.extend_from_slice(trailers.as_bytes());
    out.extend_from_slice(CRLF);
}
