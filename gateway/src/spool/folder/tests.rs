//! What a folder is found to hold after every kind of end: clean, cut off, flipped, half removed, not ours.

use super::super::record::Stray;
use super::*;

struct Scene {
    dir: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("spool")
    }

    fn open(&self) -> (Folder, Left) {
        Folder::open(&self.path()).unwrap()
    }

    /// A segment with these payloads; answers where each begins and where the last ends.
    fn segment(&self, number: u64, payloads: &[&str]) -> Vec<usize> {
        let (folder, _) = self.open();
        let file = folder.create(number).unwrap();
        let mut bytes = Vec::new();
        let mut places = vec![SEGMENT_HEAD_BYTES];
        for payload in payloads {
            record::write(&mut bytes, number * 100, Stray::Bury, payload.as_bytes());
            places.push(SEGMENT_HEAD_BYTES + bytes.len());
        }
        file.write_all_at(&bytes, SEGMENT_HEAD_BYTES as u64).unwrap();
        places
    }

    fn file(&self, number: u64) -> PathBuf {
        segment(&self.path(), number)
    }
}

#[test]
fn a_folder_is_made_and_held_by_one_process() {
    let scene = Scene::new();
    let (folder, left) = scene.open();
    assert_eq!(left, Left { next: 1, ..Left::default() });
    assert!(matches!(Folder::open(&scene.path()), Err(OpenError::InUse(_))));
    drop(folder);
    scene.open();
}

#[test]
fn what_a_former_life_left_is_counted_from_where_it_was_drained_to() {
    let scene = Scene::new();
    scene.segment(3, &["drained"]);
    let places = scene.segment(4, &["confirmed", "waits", "waits too"]);
    scene.segment(6, &["last"]);
    let position = Position { segment: 4, offset: places[1] as u64 };
    scene.open().0.save(position).unwrap();
    assert_eq!(look(&scene.path()).unwrap(), (3, 0));
    let (_, left) = scene.open();
    let bytes = (places[3] - places[1]) as u64;
    let first = Closed { number: 4, events: 2, bytes, from: places[1], since_ms: Some(400) };
    assert_eq!((left.segments.len(), left.segments[0], left.next), (2, first, 7));
    assert!(!scene.file(3).exists(), "what was drained before the crash is removed after it");
}

#[test]
fn a_torn_tail_is_cut_off_and_an_empty_segment_removed() {
    let scene = Scene::new();
    let places = scene.segment(1, &["whole", "torn"]);
    let file = OpenOptions::new().write(true).open(scene.file(1)).unwrap();
    file.set_len(places[2] as u64 - 1).unwrap();
    fs::write(scene.file(2), b"TRPS").unwrap();
    let (_, left) = scene.open();
    assert_eq!((left.segments.len(), left.segments[0].events), (1, 1));
    assert_eq!(left.torn_bytes, (places[2] - 1 - places[1]) as u64);
    assert_eq!(fs::metadata(scene.file(1)).unwrap().len(), places[1] as u64);
    assert!(!scene.file(2).exists());
    assert_eq!(scene.open().1.torn_bytes, 0, "cut off once");
}

#[test]
fn a_damaged_record_counts_as_one_and_a_damaged_position_as_none() {
    let scene = Scene::new();
    let places = scene.segment(1, &["a", "b", "c"]);
    let file = OpenOptions::new().write(true).open(scene.file(1)).unwrap();
    file.write_all_at(b"!", places[2] as u64 - 1).unwrap();
    scene.open().0.save(Position { segment: 1, offset: places[1] as u64 }).unwrap();
    assert_eq!(scene.open().1.segments[0].events, 2);
    fs::write(scene.path().join(POSITION), b"nonsense").unwrap();
    let (folder, left) = scene.open();
    assert_eq!(left.segments[0].events, 3);
    let range = places[1]..places[2];
    for _ in 0..2 {
        let path = folder.isolate(1, &range, b"the bytes").unwrap();
        assert_eq!(fs::read(path).unwrap(), b"the bytes");
    }
    drop(folder);
    assert_eq!(scene.open().1.isolated, (1, 9));
}

#[test]
fn what_another_version_or_another_program_wrote_is_refused_and_kept() {
    let scene = Scene::new();
    scene.segment(1, &["a"]);
    let mut bytes = fs::read(scene.file(1)).unwrap();
    bytes[8] = 9;
    let sum = checksum(&bytes[..12]).to_le_bytes();
    bytes[12..16].copy_from_slice(&sum);
    fs::write(scene.file(1), &bytes).unwrap();
    let error = Folder::open(&scene.path()).unwrap_err();
    assert!(error.to_string().contains("form 9"), "{error}");
    OpenOptions::new().write(true).open(scene.file(1)).unwrap().set_len(SEGMENT_BYTES_MAX + 1).unwrap();
    assert!(matches!(Folder::open(&scene.path()), Err(OpenError::Foreign { .. })));
    assert!(scene.file(1).exists());
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, b"").unwrap();
    let error = Folder::open(&file.join("spool")).unwrap_err().to_string();
    assert!(error.contains("file/spool") && error.contains("choose another"), "{error}");
}
