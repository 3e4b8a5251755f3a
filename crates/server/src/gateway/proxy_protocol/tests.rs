use proptest::prelude::*;

use super::*;

fn ends(client: &str, ours: &str) -> Option<(SocketAddr, SocketAddr)> {
    Some((client.parse().unwrap(), ours.parse().unwrap()))
}

fn parsed(input: &[u8]) -> Header {
    Header::parse(input).unwrap().unwrap()
}

/// A header of version 2 as the specification lays it out.
fn binary_header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    header.extend_from_slice(&[command, family]);
    header.extend_from_slice(&u16::try_from(rest.len()).unwrap().to_be_bytes());
    header.extend_from_slice(rest);
    header
}

#[test]
fn lines_are_read() {
    let header = parsed(b"PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\nGET / HTTP/1.1\r\n");
    assert_eq!(header.len, 45);
    assert_eq!(header.ends, ends("192.0.2.1:56324", "198.51.100.7:443"));
    let header = parsed(b"PROXY TCP6 2001:db8::1 ::ffff:192.0.2.1 0 65535\r\n");
    assert_eq!(header.ends, ends("[2001:db8::1]:0", "[::ffff:192.0.2.1]:65535"));
    assert_eq!(parsed(b"PROXY UNKNOWN\r\n"), Header { len: 15, ends: None });
    assert_eq!(parsed(b"PROXY UNKNOWN ffff::1 what ever 1\r\n").ends, None);
}

#[test]
fn binary_headers_are_read() {
    let rest = [192, 0, 2, 1, 198, 51, 100, 7, 0xdc, 4, 1, 0xbb];
    let header = parsed(&binary_header(0x21, 0x11, &rest));
    assert_eq!(header, Header { len: 28, ends: ends("192.0.2.1:56324", "198.51.100.7:443") });
    // What a sender adds is passed over.
    let longer = [&rest[..], b"\x04\0\x01x"].concat();
    assert_eq!(parsed(&binary_header(0x21, 0x11, &longer)).len, 32);
    let mut rest = [0; 36];
    rest[15] = 1;
    rest[31] = 2;
    rest[33] = 80;
    rest[35] = 81;
    assert_eq!(parsed(&binary_header(0x21, 0x21, &rest)).ends, ends("[::1]:80", "[::2]:81"));
    // Of its own account, by UDP, of the Unix domain.
    assert_eq!(parsed(&binary_header(0x20, 0, &[])), Header { len: 16, ends: None });
    assert_eq!(parsed(&binary_header(0x20, 0x11, &rest)).ends, None);
    assert_eq!(parsed(&binary_header(0x21, 0x12, &rest)).ends, None);
    assert_eq!(parsed(&binary_header(0x21, 0x31, &[0; 216])).ends, None);
}

#[test]
fn what_is_none_is_refused() {
    let missing: [&[u8]; 5] =
        [b"GET / HTTP/1.1\r\n", b"\r\nGET", b"PROXx", b"proxy TCP4", b"\r\n\r\n\0\r\nQUIT\r"];
    for input in missing {
        assert_eq!(Header::parse(input), Err(HeaderError::Missing), "{input:?}");
    }
    let malformed: [&[u8]; 12] = [
        b"PROXY TCP4 192.0.2.1 198.51.100.7 56324\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.7 56324 443 \r\n",
        b"PROXY TCP4  192.0.2.1 198.51.100.7 56324 443\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.7 56324 65536\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.7 +6324 443\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.7 056324 443\r\n",
        b"PROXY TCP4 192.0.2.256 198.51.100.7 1 443\r\n",
        b"PROXY TCP4 ::1 ::2 1 443\r\n",
        b"PROXY TCP6 192.0.2.1 198.51.100.7 1 443\r\n",
        b"PROXY UDP4 192.0.2.1 198.51.100.7 1 443\r\n",
        b"PROXY \r\n",
        b"PROXY TCP4 \xff 198.51.100.7 1 443\r\n",
    ];
    for input in malformed {
        assert_eq!(Header::parse(input), Err(HeaderError::Malformed), "{input:?}");
    }
    let long = [b"PROXY UNKNOWN ".to_vec(), vec![b'x'; 91], b"\r\n".to_vec()].concat();
    assert_eq!(long.len(), 107);
    assert_eq!(parsed(&long).len, 107);
    let long = [b"PROXY UNKNOWN ".to_vec(), vec![b'x'; 92], b"\r\n".to_vec()].concat();
    assert_eq!(Header::parse(&long), Err(HeaderError::Malformed));
    for command in [0x11, 0x22, 0x00, 0x31] {
        let header = binary_header(command, 0x11, &[0; 12]);
        assert_eq!(Header::parse(&header), Err(HeaderError::Malformed));
    }
    assert_eq!(Header::parse(&binary_header(0x21, 0x11, &[0; 11])), Err(HeaderError::Malformed));
    assert_eq!(Header::parse(&binary_header(0x21, 0x21, &[0; 35])), Err(HeaderError::Malformed));
    let header = binary_header(0x21, 0x11, &[0; 5000]);
    assert_eq!(Header::parse(&header), Err(HeaderError::TooLong));
}

#[test]
fn what_is_written_is_of_one_family() {
    let written = |version, peer: &str, local: &str| {
        let endpoints =
            Endpoints { peer: peer.parse().ok(), local: local.parse().ok(), balanced: None };
        let mut out = Vec::new();
        write(&mut out, version, &endpoints);
        out
    };
    let line = |peer, local| String::from_utf8(written(ProxyProtocol::V1, peer, local)).unwrap();
    assert_eq!(line("192.0.2.1:1", "192.0.2.2:80"), "PROXY TCP4 192.0.2.1 192.0.2.2 1 80\r\n");
    assert_eq!(line("[::1]:1", "[::2]:80"), "PROXY TCP6 ::1 ::2 1 80\r\n");
    assert_eq!(
        line("192.0.2.1:1", "[2001:db8::2]:80"),
        "PROXY TCP6 ::ffff:192.0.2.1 2001:db8::2 1 80\r\n"
    );
    assert_eq!(line("192.0.2.1:1", ""), "PROXY TCP4 192.0.2.1 192.0.2.1 1 1\r\n");
    assert_eq!(line("", "192.0.2.2:80"), "PROXY UNKNOWN\r\n");
    assert_eq!(parsed(&written(ProxyProtocol::V2, "", "")).ends, None);
    assert_eq!(
        parsed(&written(ProxyProtocol::V2, "[::ffff:192.0.2.1]:1", "[::1]:80")).ends,
        ends("[::ffff:192.0.2.1]:1", "[::1]:80")
    );
}

fn address() -> impl Strategy<Value = SocketAddr> {
    let v4 = (any::<[u8; 4]>(), any::<u16>()).prop_map(|(ip, port)| SocketAddr::from((ip, port)));
    let v6 = (any::<[u16; 8]>(), any::<u16>()).prop_map(|(ip, port)| SocketAddr::from((ip, port)));
    prop_oneof![v4, v6]
}

/// What reading `input` byte by byte comes to, and after how many.
fn slowly(input: &[u8]) -> (usize, Result<Option<Header>, HeaderError>) {
    let verdicts = (0..=input.len()).map(|len| (len, Header::parse(&input[..len])));
    let mut verdicts = verdicts.skip_while(|(_, verdict)| *verdict == Ok(None));
    verdicts.next().unwrap_or((input.len(), Ok(None)))
}

proptest! {
    #[test]
    fn what_is_written_is_read_however_it_is_split(
        client in address(),
        ours in address(),
        version in prop_oneof![Just(ProxyProtocol::V1), Just(ProxyProtocol::V2)],
        rest in proptest::collection::vec(any::<u8>(), 0..64),
    ) {
        let mut input = Vec::new();
        let endpoints = Endpoints { peer: Some(client), local: Some(ours), balanced: None };
        write(&mut input, version, &endpoints);
        let len = input.len();
        input.extend_from_slice(&rest);
        let header = parsed(&input);
        prop_assert_eq!(slowly(&input), (len, Ok(Some(header))));
        let (read_client, read_ours) = header.ends.unwrap();
        let canonical =
            |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
        prop_assert_eq!(canonical(read_client), canonical(client));
        prop_assert_eq!(canonical(read_ours), canonical(ours));
        prop_assert_eq!(read_client.is_ipv4(), read_ours.is_ipv4());
    }

    #[test]
    fn no_input_panics_and_no_verdict_depends_on_the_split(
        start in prop_oneof![
            Just(&b""[..]), Just(&b"PROXY "[..]), Just(&b"PROXY TCP4 1.2.3.4 "[..]),
            Just(&b"\r\n\r\n\0\r\nQUIT\n"[..]), Just(&b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"[..]),
        ],
        rest in proptest::collection::vec(prop_oneof![any::<u8>(), Just(b'\r'), Just(b'\n')], 0..140),
    ) {
        let input = [start, &rest].concat();
        let (_, slow) = slowly(&input);
        let whole = Header::parse(&input);
        prop_assert_eq!(slow, whole);
    }
}
