// A few calls through the npm client `node-zookeeper-client`. Usage: node session.js HOST:PORT
//
// Prints only what two right servers must answer alike, for a comparison with expected.txt.
'use strict';

const zookeeper = require('node-zookeeper-client');

const client = zookeeper.createClient(process.argv[2], { sessionTimeout: 10000, retries: 1 });

// The client calls back with (error, ...results); a failure is printed by its name, as an answer like any other.
function call(name, ...parameters) {
  return new Promise((resolve) => {
    client[name](...parameters, (error, ...results) => resolve(error ? { error: error.getName() } : { results }));
  });
}

function show(what, answer, pick) {
  console.log(`${what}: ${answer.error || pick(...answer.results)}`);
}

async function session() {
  const { CreateMode } = zookeeper;
  const path = (path) => path;
  show('create', await call('create', '/n', Buffer.from('one')), path);
  show('create again', await call('create', '/n', Buffer.from('one')), path);
  show('no parent', await call('create', '/none/child'), path);
  show('get', await call('getData', '/n'), (data, stat) => `${data} version ${stat.version}`);
  show('get nobody', await call('getData', '/nobody'), path);

  const events = [];
  const watcher = (event) => events.push(`${event.getName()} ${event.getPath()}`);
  await call('getData', '/n', watcher);
  await call('getChildren', '/n', watcher);
  await call('exists', '/n/late', watcher);
  show('set', await call('setData', '/n', Buffer.from('two'), 0), (stat) => `version ${stat.version}`);
  show('set bad version', await call('setData', '/n', Buffer.from('two'), 9), (stat) => `version ${stat.version}`);
  show('ephemeral', await call('create', '/n/late', Buffer.alloc(0), CreateMode.EPHEMERAL), path);
  show('sequential', await call('create', '/n/s-', Buffer.alloc(0), CreateMode.PERSISTENT_SEQUENTIAL), path);
  show('children', await call('getChildren', '/n'), (names, stat) => `${names.sort()} of ${stat.numChildren}`);
  show('exists', await call('exists', '/n/late'), (stat) => (stat ? 'yes' : 'no'));
  show('exists nobody', await call('exists', '/nobody'), (stat) => (stat ? 'yes' : 'no'));
  show('not empty', await call('remove', '/n'), () => 'removed');

  const good = client.transaction().check('/n', 1).create('/n/t', Buffer.from('t')).setData('/n', Buffer.from('three'));
  const results = await new Promise((resolve) => good.commit((error, results) => resolve(error || results)));
  console.log(`transaction: ${results.length} results, ${results.map((one) => one.type).join(' ')}`);
  const bad = client.transaction().create('/n/u').check('/n', 1);
  const refused = await new Promise((resolve) => bad.commit((error) => resolve(error)));
  console.log(`refused transaction: ${refused && refused.getName()}`);
  show('half of it', await call('exists', '/n/u'), (stat) => (stat ? 'there' : 'not there'));

  for (const child of ['late', 's-0000000001', 't']) show(`remove ${child}`, await call('remove', `/n/${child}`), () => 'removed');
  show('remove', await call('remove', '/n'), () => 'removed');
  console.log(`events: ${events.join(', ')}`);
}

const deadline = setTimeout(() => {
  console.log('gave up');
  process.exit(1);
}, 20000);

client.once('connected', () => {
  session().then(() => {
    client.once('disconnected', () => {
      console.log('closed');
      clearTimeout(deadline);
    });
    client.close();
  });
});
client.connect();
