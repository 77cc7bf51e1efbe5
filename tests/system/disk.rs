//! A full disk: what cannot be kept is refused with 503, what was accepted is finished once there is room again.
//!
//! The disk is a small tmpfs over the data folder, so this needs the right to mount; elsewhere it says that it was
//! skipped, and under CI a skip is a failure.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::json;
use troupe_tests::Stage;
use troupe_tests::wait::until;

use super::agents::ECHO;

/// A mounted folder; gone when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None` where mounting is not allowed.
    fn over(folder: PathBuf, size: &str) -> Option<Self> {
        std::fs::create_dir_all(&folder).expect("the data folder");
        let options = format!("size={size}");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(&folder).output();
        mounted.is_ok_and(|output| output.status.success()).then_some(Self(folder))
    }

    fn grow(&self, size: &str) {
        let options = format!("remount,size={size}");
        let grown = Command::new("mount").args(["-o", &options]).arg(&self.0).status();
        assert!(grown.is_ok_and(|status| status.success()), "the disk does not grow");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: the node's process may still be going.
        Command::new("umount").arg("-l").arg(&self.0).status().ok();
    }
}

#[tokio::test]
async fn a_full_disk_refuses_and_loses_nothing() {
    let mut stage = Stage::new();
    stage.agent("echo", ECHO);
    let Some(disk) = SmallDisk::over(stage.path("data"), "4m") else {
        println!("skipped: no right to mount a small disk");
        assert!(std::env::var_os("CI").is_none(), "skipped under CI");
        return;
    };
    let _node = stage.start().await;
    let admin = stage.admin();
    let large = "x".repeat(60_000);
    let (mut accepted, mut refused) = (Vec::new(), 0);
    for n in 0..400 {
        let body = json!({"input": format!("{n} {large}")});
        match admin.post("/v1/agents/echo/tasks", &[], &body).await {
            (202, task) => accepted.push(task["id"].as_str().expect("an id").to_owned()),
            (503, problem) => {
                assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("full")), "{problem}");
                refused += 1;
            }
            other => panic!("neither taken nor refused: {other:?}"),
        }
        if refused == 5 {
            break;
        }
    }
    assert!(!accepted.is_empty() && refused == 5, "{} taken, {refused} refused", accepted.len());
    assert_eq!(admin.status("/livez").await, Some(200), "a full disk is no reason to die");

    disk.grow("256m");
    for id in &accepted {
        let what = format!("the end of {id}, which was accepted");
        until(&what, Duration::from_secs(60), async || {
            let (status, task) = admin.get(&format!("/v1/tasks/{id}")).await;
            (status == 200 && task["status"] == "succeeded").then_some(())
        })
        .await;
    }
    let (status, task) = admin.post("/v1/agents/echo/tasks?wait=20s", &[], &json!({"input": "room again"})).await;
    assert_eq!((status, task["status"].as_str()), (200, Some("succeeded")), "{task}");
}
