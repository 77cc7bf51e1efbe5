//! The exit code: the whole of what a script learns without reading.
//!
//! The numbers are promised (docs: "Command line"); they are spelled here and nowhere else. Two tables lead to them: the
//! status of an API answer and the end of a task. `main` turns the result into the process's code.

use std::process::ExitCode;

use troupe_runtime::domain::task::TaskStatus;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Exit {
    /// It did what was asked.
    Ok,
    /// It did not, for a reason that the error line tells.
    Error,
    /// The command line cannot be understood.
    Usage,
    /// What was asked for does not exist, or a check found something wrong.
    NotFound,
    /// Somebody else was there first, or it is not in a state for that.
    Conflict,
    /// The task that was waited for failed or was called off.
    TaskFailed,
    /// The task that was waited for needs a person.
    TaskWaits,
    /// The configuration is wrong or incomplete.
    Config,
    /// The time given was over.
    TimedOut,
}

impl Exit {
    /// Every way to end, in the order of the codes.
    pub const ALL: [Self; 9] = [
        Self::Ok,
        Self::Error,
        Self::Usage,
        Self::NotFound,
        Self::Conflict,
        Self::TaskFailed,
        Self::TaskWaits,
        Self::Config,
        Self::TimedOut,
    ];

    /// The number that the process ends with.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Error => 1,
            Self::Usage => 2,
            Self::NotFound => 3,
            Self::Conflict => 4,
            Self::TaskFailed => 5,
            Self::TaskWaits => 6,
            Self::Config => 78,
            Self::TimedOut => 124,
        }
    }

    /// What an API answer with this status means for the command.
    #[must_use]
    pub const fn of_status(status: u16) -> Self {
        match status {
            200..=299 => Self::Ok,
            400 | 422 => Self::Usage,
            404 | 410 => Self::NotFound,
            409 | 412 => Self::Conflict,
            408 | 504 => Self::TimedOut,
            _ => Self::Error,
        }
    }

    /// What the status of a task means for somebody who waited for it; an open one means that the wait is over.
    #[must_use]
    pub const fn of_task(status: TaskStatus) -> Self {
        match status {
            TaskStatus::Succeeded => Self::Ok,
            TaskStatus::Failed | TaskStatus::Cancelled => Self::TaskFailed,
            TaskStatus::Waiting => Self::TaskWaits,
            TaskStatus::Received | TaskStatus::Running => Self::TimedOut,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_promised_numbers() {
        let codes: Vec<u8> = Exit::ALL.iter().map(|exit| exit.code()).collect();
        assert_eq!(codes, [0, 1, 2, 3, 4, 5, 6, 78, 124]);
    }

    #[test]
    fn the_table_of_api_answers() {
        let table = [
            (200, Exit::Ok),
            (202, Exit::Ok),
            (400, Exit::Usage),
            (401, Exit::Error),
            (403, Exit::Error),
            (404, Exit::NotFound),
            (408, Exit::TimedOut),
            (409, Exit::Conflict),
            (412, Exit::Conflict),
            (422, Exit::Usage),
            (429, Exit::Error),
            (500, Exit::Error),
            (503, Exit::Error),
            (504, Exit::TimedOut),
        ];
        for (status, exit) in table {
            assert_eq!(Exit::of_status(status), exit, "{status}");
        }
    }

    #[test]
    fn every_end_of_a_task_has_its_code() {
        let codes: Vec<u8> = TaskStatus::ALL.into_iter().map(|status| Exit::of_task(status).code()).collect();
        assert_eq!(codes, [124, 124, 6, 0, 5, 5]);
    }
}
