//! The suspend-aware clock: it goes on while the laptop sleeps, and waiting on it ends as soon as the laptop has woken.

use overside_model::Moment;

/// The present moment.
pub fn now() -> Moment {
    platform::now()
}

/// Waits until `deadline`, sleep of the machine included: a deadline that passed during the sleep is over at its end.
pub async fn sleep_until(deadline: Moment) {
    platform::sleep_until(deadline).await;
}

#[cfg(target_os = "linux")]
mod platform {
    use std::time::Duration;

    use overside_model::Moment;
    use rustix::time::{
        ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime, timerfd_create,
        timerfd_settime,
    };
    use tokio::io::unix::AsyncFd;

    pub(super) fn now() -> Moment {
        let time = clock_gettime(ClockId::Boottime);
        let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
        let nanoseconds = u32::try_from(time.tv_nsec).unwrap_or(0);
        Moment::from_boot(Duration::new(seconds, nanoseconds))
    }

    pub(super) async fn sleep_until(deadline: Moment) {
        if deadline <= now() {
            return;
        }
        // A timer of the kernel's on the boot-time clock; tokio's own stand still while the machine sleeps.
        if let Ok(timer) = timer(deadline).and_then(registered)
            && timer.readable().await.is_ok()
        {
            return;
        }
        // Out of file descriptors: be late after a sleep rather than never.
        tokio::time::sleep(deadline.since(now())).await;
    }

    #[expect(unsafe_code, reason = "tokio has no safe way to register a descriptor of one's own")]
    fn registered(fd: rustix::fd::OwnedFd) -> std::io::Result<AsyncFd<rustix::fd::OwnedFd>> {
        // SAFETY: the descriptor is owned by the AsyncFd from here on, and open until it is dropped.
        Ok(unsafe { AsyncFd::register(fd) }?)
    }

    fn timer(deadline: Moment) -> std::io::Result<rustix::fd::OwnedFd> {
        let fd = timerfd_create(TimerfdClockId::Boottime, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        let at = deadline.since_boot();
        let spec = Itimerspec {
            it_interval: Timespec { tv_sec: 0, tv_nsec: 0 },
            it_value: Timespec {
                tv_sec: at.as_secs().try_into().unwrap_or(i64::MAX),
                tv_nsec: at.subsec_nanos().into(),
            },
        };
        timerfd_settime(&fd, TimerfdTimerFlags::ABSTIME, &spec)?;
        Ok(fd)
    }
}

#[cfg(not(target_os = "linux"))]
mod platform {
    use std::time::Duration;

    use overside_model::Moment;

    /// Longest wait in one piece: the timers of these systems stand still in sleep, so that the clock is looked at again.
    const SLICE: Duration = Duration::from_secs(10);

    #[cfg(unix)]
    pub(super) fn now() -> Moment {
        // CLOCK_MONOTONIC counts sleep on macOS, unlike std's Instant there.
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
        let nanoseconds = u32::try_from(time.tv_nsec).unwrap_or(0);
        Moment::from_boot(Duration::new(seconds, nanoseconds))
    }

    #[cfg(not(unix))]
    pub(super) fn now() -> Moment {
        // Windows' Instant is the performance counter, which counts sleep; it has no epoch to be had, so that the process's
        // first look at it serves as one, moved by the time of day to stay comparable between processes of one boot.
        static START: std::sync::OnceLock<(std::time::Instant, Duration)> = std::sync::OnceLock::new();
        let (start, offset) = START.get_or_init(|| {
            (
                std::time::Instant::now(),
                std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default(),
            )
        });
        Moment::from_boot(*offset + start.elapsed())
    }

    pub(super) async fn sleep_until(deadline: Moment) {
        loop {
            let left = deadline.since(now());
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left.min(SLICE)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_wait_ends_at_its_deadline_and_not_before() {
        let deadline = now() + Duration::from_millis(20);
        sleep_until(deadline).await;
        assert!(now() >= deadline);
    }

    #[tokio::test]
    async fn a_deadline_in_the_past_is_over_at_once() {
        let before = now();
        sleep_until(before - Duration::from_secs(1)).await;
        assert!(now().since(before) < Duration::from_secs(1));
    }
}
