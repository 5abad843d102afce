// Story: shows in half a minute what the page is about, by doing it: real edits on both devices.

const REST_MS = 1400, KEY_MS = 35;
const still = matchMedia('(prefers-reduced-motion: reduce)');
const rest = (ms = REST_MS) => new Promise(resolve => setTimeout(resolve, still.matches ? 0 : ms));

/** Plays it on two replicas that have joined. */
export async function tell([phone, laptop]) {
  const say = text => { document.getElementById('told').textContent = text; };
  const devices = [phone, laptop];
  try {
    for (const device of devices) { await device.db.connect(); await level(device); }
    const [{ n }] = await phone.db.query("SELECT count(*) AS n FROM cards WHERE title LIKE 'Picnic%'");
    const mark = n ? ` ${n + 1}` : '';
    const [picnic, lemonade] = [`Picnic${mark}`, `Lemonade${mark}`];

    say('A card is made on the phone. The laptop has it a moment later.');
    bring(phone.section);
    await add(phone, picnic);
    const id = await appears(laptop, picnic);
    await appears(phone, picnic);
    await type(phone, id, 'Bread.', 'end');
    await rest();

    say('The laptop goes offline.');
    await laptop.db.disconnect();
    await rest();

    say('Both edit the card: its note, its title, a vote each. And both make a card of the same title.');
    await type(phone, id, ' Cheese.', 'end');
    await vote(phone, id);
    await rename(phone, id, `${picnic} on Sunday`);
    await add(phone, lemonade);
    await rest();
    bring(laptop.section);
    await type(laptop, id, 'Ask Ada! ', 'start');
    await vote(laptop, id);
    await rename(laptop, id, `${picnic} by the lake`);
    await add(laptop, lemonade);
    await rest(2 * REST_MS);

    say('The laptop comes back …');
    await laptop.db.connect();
    for (const device of [laptop, phone, laptop]) await level(device);
    await rest();
    say('The note has both edits and the card both votes. The later title shows; the other, and the second card of one title, wait in the inbox for you. Nothing is lost.');
    bring(phone.section);
    see(phone.section.parentElement);
  } catch (error) { say(`The story ended early: ${error.message}`); }
}

const card = (device, id) => device.section.querySelector(`.card[data-id="${id}"]`);
/** On a screen with room for one device: shows this one. */
export const bring = section => section.parentElement.scrollTo({ left: section.offsetLeft - section.parentElement.offsetLeft });

/** Brings what the story came to into sight, below what is said of it. */
function see(place) {
  place.style.scrollMarginTop = `${document.getElementById('stay').offsetHeight + 8}px`;
  place.scrollIntoView({ block: 'start', behavior: still.matches ? 'auto' : 'smooth' });
}

/** Calls back once a device that shall be connected cannot be: the story does not wait for a server that is gone. Returns what ends that. */
function unless({ db }, failed) {
  const look = async () => {
    const { problem } = await db.status();
    if (problem) failed(new Error(problem.code === 'UNREACHABLE' ? 'the server does not answer. Start it, and press “Show me” again' : problem.message));
  };
  const stop = db.on('status', () => look().catch(failed));
  look().catch(failed);
  return stop;
}

/** Resolves once a device and the server hold the same. */
function level(device) {
  return new Promise((resolve, reject) => {
    const stop = unless(device, error => { stop(); reject(error); });
    device.db.level().then(() => { stop(); resolve(); }, error => { stop(); reject(error); });
  });
}

/** Resolves with the id of a card once the device shows it. */
function appears(device, title) {
  return new Promise((resolve, reject) => {
    const look = () => {
      const found = [...device.section.querySelectorAll('.card')].find(card => card.querySelector('.title').value === title);
      if (found) { end(); resolve(found.dataset.id); }
    };
    const seen = new MutationObserver(look);
    const stop = unless(device, error => { end(); reject(error); });
    const end = () => { seen.disconnect(); stop(); };
    seen.observe(device.section.querySelector('.groups'), { childList: true, subtree: true });
    look();
  });
}

async function add(device, title) {
  const form = device.section.querySelector('.add');
  const { title: field } = form.elements;
  for (const letter of title) { field.value += letter; await rest(KEY_MS); }
  form.requestSubmit();
  await appears(device, title);
}

async function type(device, id, text, where) {
  const note = card(device, id).querySelector('.note');
  let at = where === 'start' ? 0 : note.value.length;
  for (const letter of text) {
    note.value = note.value.slice(0, at) + letter + note.value.slice(at++);
    note.dispatchEvent(new Event('input'));
    await rest(KEY_MS);
  }
  while ((await device.db.query('SELECT note FROM cards WHERE id = ?', [id]))[0].note !== note.value) await rest(KEY_MS);
}

const vote = (device, id) => device.db.run('UPDATE cards SET votes = votes + 1 WHERE id = ?', [id]);
const rename = (device, id, title) => device.db.run('UPDATE cards SET title = ? WHERE id = ?', [title, id]);
