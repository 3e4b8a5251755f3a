use super::*;

type Outcome = Result<(Vec<u8>, Vec<(String, Vec<u8>)>, usize), Offence>;

/// Decodes in pieces of `step` bytes; the last number is how much of the input belongs to the body.
fn pieces(input: &[u8], step: usize, limits: &Limits) -> Outcome {
    let mut decoder = ChunkedDecoder::new();
    let (mut data, mut at, mut end) = (Vec::new(), 0, 0);
    while !decoder.is_done() {
        if at == end && end == input.len() {
            return Err(Offence::Truncated);
        }
        end = (end + step).min(input.len());
        loop {
            let step = decoder.decode(&input[at..end], limits)?;
            if let Event::Data(range) = &step.event {
                assert!(!range.is_empty());
                data.extend_from_slice(&input[at..end][range.clone()]);
            }
            at += step.consumed;
            if !matches!(step.event, Event::Data(_)) {
                break;
            }
        }
    }
    assert_eq!(decoder.decoded(), data.len() as u64);
    Ok((
        data,
        decoder.trailers().map(|(name, value)| (name.to_owned(), value.to_vec())).collect(),
        at,
    ))
}

fn decode_with(input: &str, limits: &Limits) -> Outcome {
    let whole = pieces(input.as_bytes(), input.len().max(1), limits);
    for step in 1..8 {
        assert_eq!(pieces(input.as_bytes(), step, limits), whole, "{input:?} by {step}");
    }
    whole
}

fn decode(input: &str) -> Outcome {
    decode_with(input, &Limits::default())
}

#[test]
fn chunks_are_joined_and_the_next_message_is_left_alone() {
    let body = "5\r\nhello\r\n00a;x;y=z;q=\"a;\\\"\r\"\r\n";
    assert_eq!(decode(body), Err(Offence::BadChunkExtension), "a CR within quotes");
    let body = "5\r\nhello\r\n00a;x;y=z;q=\"a;\\\" \t\"\r\n0123456789\r\n0;last\r\n\r\nGET /";
    assert_eq!(decode(body), Ok((b"hello0123456789".to_vec(), vec![], body.len() - 5)));
    assert_eq!(decode("0\r\n\r\n"), Ok((vec![], vec![], 5)));
    assert_eq!(
        decode("A\r\n\r\n\r\n\r\n\r\n\r\n\r\n0\r\n\r\n").map(|(data, ..)| data.len()),
        Ok(10)
    );
}

#[test]
fn a_malformed_chunk_is_refused_by_name() {
    use Offence::*;
    for (input, offence) in [
        ("\r\n", BadChunkSize),
        (" 5\r\n", BadChunkSize),
        ("5 \r\n", BadChunkSize),
        ("5\t;x\r\n", BadChunkSize),
        ("0x5\r\n", BadChunkSize),
        ("+5\r\n", BadChunkSize),
        ("-5\r\n", BadChunkSize),
        ("g\r\n", BadChunkSize),
        ("5,5\r\n", BadChunkSize),
        ("5_0\r\n", BadChunkSize),
        ("00000000000000005\r\n", BadChunkSize),
        ("10000000000000000\r\n", BadChunkSize),
        ("5\n", BareLf),
        ("5\rx", BareCr),
        ("5\r\r\n", BareCr),
        ("5;x\n", BareLf),
        ("5;\r\n", BadChunkExtension),
        ("5;;x\r\n", BadChunkExtension),
        ("5;=x\r\n", BadChunkExtension),
        ("5;x=\r\n", BadChunkExtension),
        ("5; x\r\n", BadChunkExtension),
        ("5;x =y\r\n", BadChunkExtension),
        ("5;x=\"y\r\n", BadChunkExtension),
        ("5;x=\"y\"z\r\n", BadChunkExtension),
        ("5;x=\"\\\r\n", BadChunkExtension),
        ("5;x=\"\n", BareLf),
        ("5;x\0\r\n", BadChunkExtension),
        ("5\r\nhelloX", MissingChunkCrlf),
        ("5\r\nhello\n", MissingChunkCrlf),
        ("5\r\nhello\rX", MissingChunkCrlf),
        ("5\r\nhello0\r\n", MissingChunkCrlf),
        ("0\r\nA: b\n\r\n", BareLf),
        ("0\r\n\rX", BareCr),
        ("0\r\nA: b\0\r\n", Nul),
        ("0\r\nA : b\r\n", SpaceBeforeColon),
        ("0\r\n A: b\r\n", ObsFold),
        ("0\r\nA: b\r\n c\r\n", ObsFold),
        ("0\r\nA\r\n", BadHeaderName),
        ("0\r\nContent-Length: 5\r\n", ForbiddenTrailer),
        ("0\r\ntransfer-encoding: chunked\r\n", ForbiddenTrailer),
        ("0\r\nHost: a\r\n", ForbiddenTrailer),
        ("0\r\nX-Forwarded-For: ::1\r\n", ForbiddenTrailer),
        ("5\r\nhel", Truncated),
        ("0\r\n", Truncated),
    ] {
        assert_eq!(decode(input), Err(offence), "{input:?}");
    }
}

#[test]
fn the_largest_size_does_not_overflow() {
    let limits = Limits { body: u64::MAX, ..Limits::default() };
    assert_eq!(decode_with("ffffffffffffffff\r\nabc", &limits), Err(Offence::Truncated));
    assert_eq!(decode_with("1\r\na\r\nffffffffffffffff\r\n", &limits), Err(Offence::BodyTooLarge));
    assert_eq!(decode("ffffffffffffffff\r\n"), Err(Offence::BodyTooLarge));
}

#[test]
fn trailers_are_kept_apart_and_bounded() {
    let (data, trailers, _) = decode("1\r\na\r\n0\r\nDigest: x\r\nEmpty:\r\n\r\n").unwrap();
    assert_eq!(data, b"a");
    assert_eq!(trailers, [("Digest".to_owned(), b"x".to_vec()), ("Empty".to_owned(), vec![])]);
    let section = "A: b\r\nC: d\r\n\r\n";
    let exact = Limits { trailer: section.len(), trailers: 2, header_line: 6, ..Limits::default() };
    let body = format!("0\r\n{section}");
    assert!(decode_with(&body, &exact).is_ok());
    for limits in [
        Limits { trailer: section.len() - 1, ..exact.clone() },
        Limits { trailers: 1, ..exact.clone() },
        Limits { header_line: 5, ..exact.clone() },
    ] {
        assert_eq!(decode_with(&body, &limits), Err(Offence::TrailerTooLarge));
    }
}

#[test]
fn bodies_and_chunk_lines_end_at_their_limits() {
    let limits = Limits { body: 6, chunk_line: 8, ..Limits::default() };
    assert!(decode_with("3\r\nabc\r\n3\r\nabc\r\n0\r\n\r\n", &limits).is_ok());
    assert_eq!(
        decode_with("3\r\nabc\r\n4\r\nabcd\r\n0\r\n\r\n", &limits),
        Err(Offence::BodyTooLarge)
    );
    assert!(decode_with("1;xxxx\r\na\r\n0\r\n\r\n", &limits).is_ok());
    assert_eq!(decode_with("1;xxxxx\r\na\r\n0\r\n\r\n", &limits), Err(Offence::ChunkLineTooLong));
}

#[test]
fn one_byte_chunks_with_long_extensions_end_and_signed_large_chunks_do_not() {
    let limits = Limits { chunk_overhead: 1000, ..Limits::default() };
    let extension = format!(";chunk-signature={}", "f".repeat(64));
    let small = format!("1{extension}\r\na\r\n").repeat(20);
    assert_eq!(decode_with(&small, &limits), Err(Offence::ChunkOverhead));
    let large = format!("400{extension}\r\n{}\r\n", "a".repeat(1024)).repeat(100);
    assert!(decode_with(&format!("{large}0\r\n\r\n"), &limits).is_ok());
    let plain = "1\r\na\r\n".repeat(1000);
    assert!(decode_with(&format!("{plain}0\r\n\r\n"), &limits).is_ok());
}

#[test]
fn a_decoder_is_reusable_and_eats_nothing_after_the_end() {
    let limits = Limits::default();
    let mut decoder = ChunkedDecoder::new();
    assert_eq!(
        decoder.decode(b"0\r\nA: b\r\n\r\nrest", &limits),
        Ok(Step { consumed: 11, event: Event::Done })
    );
    assert_eq!(decoder.decode(b"rest", &limits), Ok(Step { consumed: 0, event: Event::Done }));
    decoder.reset();
    assert_eq!(decoder.trailers().count(), 0);
    assert_eq!(
        decoder.decode(b"1\r\nx", &limits),
        Ok(Step { consumed: 4, event: Event::Data(3..4) })
    );
}

#[test]
fn what_we_encode_we_decode() {
    for (len, text) in [
        (1, "1\r\n"),
        (15, "f\r\n"),
        (16, "10\r\n"),
        (0xabcdef, "abcdef\r\n"),
        (u64::MAX, "ffffffffffffffff\r\n"),
        (0, "0\r\n"),
    ] {
        assert_eq!(chunk_head(len).as_bytes(), text.as_bytes());
    }
    let body = [chunk_head(3).as_bytes(), b"abc", CRLF, LAST_CHUNK].concat();
    assert_eq!(
        decode(std::str::from_utf8(&body).unwrap()).map(|(data, ..)| data),
        Ok(b"abc".to_vec())
    );
}

/// Decodes `input`, of which the decoder sees `step` bytes at a time, and of the data only what came
/// with a chunk's line: the rest goes past it.
fn spliced(input: &[u8], step: usize, limits: &Limits) -> Outcome {
    let mut decoder = ChunkedDecoder::new();
    let (mut data, mut at) = (Vec::new(), 0);
    while !decoder.is_done() {
        if at == input.len() {
            return Err(Offence::Truncated);
        }
        let ahead = usize::try_from(decoder.data_left()).unwrap_or(usize::MAX);
        if ahead > 0 {
            let here = ahead.min(input.len() - at).min(step);
            assert_eq!(decoder.skip(here as u64), here as u64);
            data.extend_from_slice(&input[at..at + here]);
            at += here;
            continue;
        }
        let end = (at + step).min(input.len());
        let found = decoder.decode(&input[at..end], limits)?;
        if let Event::Data(range) = &found.event {
            data.extend_from_slice(&input[at..end][range.clone()]);
        }
        at += found.consumed;
    }
    assert_eq!(decoder.decoded(), data.len() as u64);
    let trailers = decoder.trailers().map(|(name, value)| (name.to_owned(), value.to_vec()));
    Ok((data, trailers.collect(), at))
}

#[test]
fn data_that_went_past_the_decoder_is_as_if_it_had_decoded_it() {
    let limits = Limits { body: 200, ..Limits::default() };
    for input in [
        "5\r\nhello\r\n00a;x\r\n0123456789\r\n0;last\r\nA: b\r\n\r\nGET /",
        "A\r\n\r\n\r\n\r\n\r\n\r\n\r\n0\r\n\r\n",
        "5\r\nhelloX",
        "5\r\nhel",
        "c8\r\n",
        "c9\r\nabc",
        "1\r\na\r\nc8\r\nabc",
        "ffffffffffffffff\r\nabc",
        "0\r\nHost: x\r\n\r\n",
    ] {
        let plain = decode_with(input, &limits);
        for step in 1..input.len() + 2 {
            assert_eq!(spliced(input.as_bytes(), step, &limits), plain, "{input:?} by {step}");
        }
    }
}

#[test]
fn no_more_is_taken_past_the_decoder_than_lies_ahead() {
    let limits = Limits::default();
    let mut decoder = ChunkedDecoder::new();
    assert_eq!((decoder.data_left(), decoder.skip(5)), (0, 0));
    let line = decoder.decode(b"5\r\n", &limits);
    assert_eq!(line, Ok(Step { consumed: 3, event: Event::NeedMore }));
    assert_eq!((decoder.data_left(), decoder.skip(2), decoder.data_left()), (5, 2, 3));
    assert_eq!((decoder.skip(0), decoder.skip(9), decoder.skip(9)), (0, 3, 0));
    assert_eq!((decoder.data_left(), decoder.decoded()), (0, 5));
    let end = decoder.decode(b"\r\n0\r\n\r\n", &limits);
    assert_eq!(end, Ok(Step { consumed: 7, event: Event::Done }));
    assert_eq!(decoder.skip(1), 0);
}
