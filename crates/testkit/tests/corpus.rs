//! File contents that follow from a seed and an offset.

use std::fs;
use std::hint::black_box;
use std::io;
use std::time::Instant;

use sluicegate_testkit::corpus::{Source, Tree, Verifier, fill, verify};

const SEED: u64 = 42;

fn contents(offset: u64, length: usize) -> Vec<u8> {
    let mut data = vec![0; length];
    fill(SEED, offset, &mut data);
    data
}

#[test]
fn every_piece_is_what_the_whole_has_there() {
    let whole = contents(0, 100);
    for start in 0..whole.len() {
        for end in start..=whole.len() {
            assert_eq!(contents(start as u64, end - start), whole[start..end]);
            assert_eq!(verify(SEED, start as u64, &whole[start..end]), Ok(()));
        }
    }
}

#[test]
fn contents_are_pinned() {
    // Sizes and files that are compared across versions of this crate depend on it.
    assert_eq!(contents(0, 8), PINNED);
    assert_ne!(contents(0, 8), contents(8, 8));
    let mut other = [0; 8];
    fill(SEED + 1, 0, &mut other);
    assert_ne!(contents(0, 8), other);
}

const PINNED: [u8; 8] = [227, 90, 111, 120, 80, 217, 158, 178];

#[test]
fn any_wrong_byte_is_found() {
    let whole = contents(3, 50);
    for place in 0..whole.len() {
        let mut wrong = whole.clone();
        wrong[place] ^= 1;
        let mismatch = verify(SEED, 3, &wrong).expect_err("one byte is wrong");
        assert_eq!(mismatch.offset, 3 + place as u64);
        assert_eq!((mismatch.found, mismatch.expected), (wrong[place], whole[place]));
        assert_eq!(mismatch.belongs_to, None);
    }
}

#[test]
fn bytes_of_another_place_tell_where_they_belong() {
    // A ring of 64 KiB that was rewritten too early: its next lap is on the wire.
    let mut data = contents(0, 100_000);
    data[60_005..].copy_from_slice(&contents(60_005 + 65_536, 100_000 - 60_005));
    let mismatch = verify(SEED, 0, &data).expect_err("the data is of two laps");
    assert_eq!(mismatch.offset, 60_005);
    assert_eq!(mismatch.belongs_to, Some(60_005 + 65_536));

    // A piece that was left out, of a length that is no multiple of a word.
    let mismatch = verify(SEED, 1_000, &contents(1_003, 64)).expect_err("three bytes are missing");
    assert_eq!(mismatch.belongs_to, Some(1_003));
    assert!(mismatch.to_string().contains("the bytes of offset 1003"), "{mismatch}");
}

#[test]
fn a_stream_is_verified_as_it_comes() {
    let mut verifier = Verifier::new(SEED, 5);
    let copied =
        io::copy(&mut Source::new(SEED, 5, 1_000_003), &mut verifier).expect("it is right");
    assert_eq!((copied, verifier.position()), (999_998, 1_000_003));
    assert!(io::copy(&mut Source::new(SEED, 5, 6), &mut verifier).is_err());
    assert_eq!(verifier.position(), 1_000_003);
}

#[test]
fn a_tree_has_its_files_and_goes_with_its_guard() {
    let tree = Tree::new()
        .and_then(|tree| tree.file("large.bin", SEED, 600_001))
        .and_then(|tree| tree.text("a/b/index.html", "hello"))
        .and_then(|tree| tree.directory("empty"))
        .and_then(|tree| tree.link("outside", "/etc/passwd"))
        .expect("temporary files can be made");
    let large = fs::read(tree.join("large.bin")).expect("it was written");
    assert_eq!(large.len(), 600_001);
    assert_eq!(verify(SEED, 0, &large), Ok(()));
    assert_eq!(fs::read(tree.join("a/b/index.html")).expect("it was written"), b"hello");
    assert!(tree.join("empty").is_dir());
    assert!(tree.join("outside").is_symlink());

    let path = tree.path().to_owned();
    drop(tree);
    assert!(!path.exists());
}

#[test]
fn contents_come_faster_than_a_network_card() {
    let mut block = vec![0; 256 << 10];
    let rounds = 2_048; // 512 MiB
    let mut best = [f64::MIN; 2];
    for _ in 0..3 {
        let began = Instant::now();
        for round in 0..rounds {
            fill(SEED, round * block.len() as u64, black_box(&mut block));
        }
        best[0] = best[0].max(rate(rounds, block.len(), began));
        let began = Instant::now();
        for _ in 0..rounds {
            verify(SEED, (rounds - 1) * block.len() as u64, black_box(&block))
                .expect("it is right");
        }
        best[1] = best[1].max(rate(rounds, block.len(), began));
    }
    println!("fill {:.1} GB/s, verify {:.1} GB/s", best[0], best[1]);
    // The floor of a lightly optimised build is low, for busy machines: what must never come
    // back is contents made byte by byte.
    let floor = if cfg!(debug_assertions) { 0.5 } else { 2.0 };
    assert!(best[0] > floor && best[1] > floor, "{best:?}");
}

fn rate(rounds: u64, length: usize, began: Instant) -> f64 {
    (rounds * length as u64) as f64 / began.elapsed().as_secs_f64() / 1e9
}
