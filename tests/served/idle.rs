//! What a server costs while nobody asks anything.

use std::time::Duration;

use crate::harness::*;

/// Generous: this looks for loops that poll, which cost a whole core.
const IDLE_CPU_PERCENT: u64 = 10;

#[test]
fn five_hundred_idle_sessions_cost_next_to_nothing() {
    each_layout(|executors| {
        let server = Setup::new(executors).start();
        let clients: Vec<Client> = (0..500).map(|_| Client::connect(server.socket_anywhere(), 30_000)).collect();
        let before = server.process.cpu_ms();
        // The span that is measured, not a wait for something.
        const SPAN: Duration = Duration::from_secs(3);
        std::thread::sleep(SPAN);
        let used = server.process.cpu_ms() - before;
        println!("{used} ms of CPU in {SPAN:?} with {executors} executor(s)");
        assert!(used * 100 <= SPAN.as_millis() as u64 * IDLE_CPU_PERCENT, "{used} ms of CPU in {SPAN:?}");
        drop(clients);
    });
}
