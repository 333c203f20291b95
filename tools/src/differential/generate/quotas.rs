//! Quotas: their limits and usage, made, changed, looked at and taken away. There is no text that is no quota where a quota belongs
//! (D-082), and no quota of nothing (D-083, D-084): the reference dies of most.

use super::super::ask::{Ask, Body, Bytes, opcode, readable};
use super::{Generator, Step, entry, text};

const SUBTREES: [&str; 8] = ["/a", "/a", "/a/b", "/a/a", "/b", "/c", "/nobody", "/zookeeper"];

impl Generator {
    /// Has all usage counted anew, by the super user, who the sweep has logged in. The next start of the reference does that to
    /// what its snapshot has, and goes on from there: D-045. What else has usage in it comes last.
    pub fn counts_anew(&mut self) -> Vec<Step> {
        let ask = |generator: &mut Generator, subtree: &str| {
            let stats = format!("/zookeeper/quota{subtree}/zookeeper_stats");
            let delete = Body::default().bytes(&text(&stats)).int(-1);
            let delete = Ask::new(opcode::DELETE, format!("delete {stats:?} version -1"), delete).about(&text(&stats));
            let (record, words) = quota_create(&stats, &text(""));
            let create = Ask::new(opcode::CREATE2, words, record).about(&text(&stats));
            let burst = vec![generator.numbered(delete), generator.numbered(create)];
            Step::Ask { slot: 0, burst }
        };
        SUBTREES[1..].iter().map(|subtree| ask(self, subtree)).collect()
    }

    /// Limits and usage of some subtree, and the nodes that they need above them.
    pub(super) fn quota(&mut self) -> Ask {
        let subtree = self.chance.pick(&SUBTREES);
        let quota = format!("/zookeeper/quota{subtree}");
        let (limits, stats) = (format!("{quota}/zookeeper_limits"), format!("{quota}/zookeeper_stats"));
        match self.chance.below(12) {
            0..=2 => self.whole_quota(subtree, &limits, &stats),
            3 | 4 => {
                let node = self.chance.pick(&[
                    quota,
                    limits.clone(),
                    limits,
                    stats.clone(),
                    "/zookeeper/quota/zookeeper_stats".into(),
                ]);
                let data = if node == stats { self.data() } else { self.quota_text() };
                let (record, words) = quota_create(&node, &data);
                Ask::new(opcode::CREATE2, words, record).about(&text(&node))
            }
            5..=7 => {
                let node = self.chance.pick(&[limits.clone(), limits, stats]);
                let data = self.quota_text();
                let words = format!("setData {node:?} data {} version -1", readable(&data));
                let record = Body::default().bytes(&text(&node)).bytes(&data).int(-1);
                Ask::new(opcode::SET_DATA, words, record).about(&text(&node))
            }
            8 => {
                let node = self.chance.pick(&[quota, limits.clone(), limits, stats]);
                let record = Body::default().bytes(&text(&node)).int(-1);
                Ask::new(opcode::DELETE, format!("delete {node:?} version -1"), record).about(&text(&node))
            }
            _ => {
                let node = self.chance.pick(&[stats.clone(), stats.clone(), stats, limits]);
                let record = Body::default().bytes(&text(&node)).byte(0);
                Ask::new(opcode::GET_DATA, format!("getData {node:?}"), record).about(&text(&node))
            }
        }
    }

    /// All nodes of a quota in one multi, which fails where some are there already.
    fn whole_quota(&mut self, subtree: &str, limits: &str, stats: &str) -> Ask {
        let mut path = "/zookeeper/quota".to_owned();
        let mut nodes = Vec::new();
        for name in subtree.split('/').skip(1) {
            path = path + "/" + name;
            nodes.push(path.clone());
        }
        // What is above may be there: the deepest ones are enough then.
        let first = self.chance.below(nodes.len() as u64 + 1) as usize;
        let nodes = nodes.split_off(first).into_iter().chain([limits.to_owned(), stats.to_owned()]);
        let (mut body, mut words) = (Body::default(), "multi".to_owned());
        for node in nodes {
            let data = self.quota_text();
            let (record, said) = quota_create(&node, &data);
            body = body.item(opcode::CREATE2, &record);
            words += &format!("\n      {said}");
        }
        Ask::new(opcode::MULTI, words, body.end_of_items()).about(&text(limits))
    }

    /// Something that Java can read: D-082.
    fn quota_text(&mut self) -> Bytes {
        let odd = ["", ",", "bytes=5,count=1", "foo=7,count=2", "count==5", "count=-5,bytes=+3;", "count=1,count=7"];
        let limit = |generator: &mut Generator, most: u64| match generator.chance.below(3) {
            0 => generator.chance.below(most) as i64,
            _ => -1,
        };
        match self.chance.below(8) {
            0 => text(self.chance.pick(&odd)),
            1 => text(&format!("count={},bytes={}", limit(self, 9), limit(self, 60))),
            _ => {
                let (count, bytes, hard_bytes, hard_count) =
                    (limit(self, 9), limit(self, 60), limit(self, 90), limit(self, 12));
                text(&format!("count={count},bytes={bytes}=;byteHardLimit={hard_bytes};countHardLimit={hard_count}"))
            }
        }
    }
}

fn quota_create(path: &str, data: &Bytes) -> (Body, String) {
    let open = Some(vec![entry(31, "world", "anyone")]);
    let record = Body::default().bytes(&text(path)).bytes(data).acl(&open).int(0);
    (record, format!("create {path:?} data {} flags 0", readable(data)))
}
