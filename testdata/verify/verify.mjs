// A second verifier of Rollbook's exports and proofs, written from docs/audit.md alone and sharing nothing with the first.
// It needs node 20 and nothing else.
//
//   node verify.mjs export --vkey VKEY... [--known FILE]... FILE...    one JSON line a file: what was found, how far it is verified
//   node verify.mjs proof --vkey VKEY... FILE...                       one JSON line a file: how many events are proved, or why not
//
// --vkey may be repeated, or hold several lines: the keys that have signed, in their order.
// The exit code is 1 when something was found, and 2 when the command line is wrong.
import { createHash, createPublicKey, verify as verifySignature } from 'node:crypto'
import { readFileSync } from 'node:fs'

// --- The Merkle tree of RFC 6962 -------------------------------------------------------------------------------------

const sha256 = (...parts) => { const h = createHash('sha256'); for (const p of parts) h.update(p); return h.digest() }
const leafHash = (...parts) => sha256(Buffer.of(0), ...parts)
const nodeHash = (left, right) => sha256(Buffer.of(1), left, right)

const eventLeaf = (partition, page, index, bytes) => leafHash(`rollbook-event/v1\n${partition}\n${page}\n${index}\n`, bytes)
const pageLeaf = (partition, page, bytes) => leafHash(`rollbook-page/v1\n${partition}\n${page}\n`, bytes)

// Tree keeps the roots of the whole subtrees, the largest first, with the level of each.
class Tree {
  constructor (size = 0, nodes = []) { this.size = size; this.nodes = nodes }
  copy () { return new Tree(this.size, [...this.nodes]) }
  add (leaf) {
    let node = leaf
    for (let n = this.size; n % 2 === 1; n = (n - 1) / 2) node = nodeHash(this.nodes.pop(), node)
    this.nodes.push(node)
    this.size++
  }

  root () {
    if (this.size === 0) return sha256()
    return this.nodes.reduceRight((right, left) => nodeHash(left, right))
  }

  toString () { return [String(this.size), ...this.nodes.map(n => n.toString('base64'))].join(' ') }

  static parse (text) {
    const [size, ...nodes] = text.split(' ')
    const tree = new Tree(Number(size), nodes.map(n => Buffer.from(n, 'base64')))
    if (!Number.isSafeInteger(tree.size) || tree.toString() !== text || tree.nodes.some(n => n.length !== 32)) return null
    const bits = tree.size.toString(2).replaceAll('0', '').length
    return bits === nodes.length ? tree : null
  }
}

// --- Keys and signed notes -------------------------------------------------------------------------------------------

const strictBase64 = text => { const raw = Buffer.from(text, 'base64'); return raw.toString('base64') === text ? raw : null }

// parseKeys reads the keys of one name, in the order in which they signed.
function parseKeys (text) {
  const keys = text.split(/\s+/).filter(Boolean).map(parseKey)
  const { name } = keys[0] ?? {}
  if (!name || keys.some(k => k.name !== name) || new Set(keys.map(k => k.raw.toString('hex'))).size !== keys.length) throw new Error('not the vkeys of one log')
  return { name, keys }
}

function parseKey (vkey) {
  const [name, id, ...rest] = vkey.trim().split('+')
  const raw = strictBase64(rest.join('+'))
  if (!raw || raw.length !== 33 || raw[0] !== 1 || keyID(name, raw).toString('hex') !== id) throw new Error('not an Ed25519 vkey')
  const spki = Buffer.concat([Buffer.from('302a300506032b6570032100', 'hex'), raw.subarray(1)])
  return { name, raw, key: createPublicKey({ key: spki, format: 'der', type: 'spki' }) }
}

const keyID = (name, raw) => sha256(name, '\n', raw).subarray(0, 4)

// openNote gives the text of a note that some of the keys have signed under a name, and which, or null.
function openNote (bytes, { keys }, name) {
  const note = bytes.toString('utf8')
  if (!Buffer.from(note, 'utf8').equals(bytes)) return null
  for (const c of note) if (c < ' ' && c !== '\n') return null
  const split = note.lastIndexOf('\n\n')
  if (split < 0 || !note.endsWith('\n')) return null
  const text = note.slice(0, split + 1)
  const lines = note.slice(split + 2).split('\n').slice(0, -1)
  const by = new Set()
  for (const line of lines) {
    const match = /^\u2014 ([^ +]+) ([A-Za-z0-9+/=]+)$/u.exec(line)
    if (!match) return null
    if (match[1] !== name) continue
    const raw = Buffer.from(match[2], 'base64')
    const at = raw.length < 5 ? -1 : keys.findIndex(key => raw.subarray(0, 4).equals(keyID(name, key.raw)))
    if (at < 0) continue
    if (!strictBase64(match[2]) || !verifySignature(null, Buffer.from(text), keys[at].key, raw.subarray(4))) return null
    by.add(at)
  }
  return by.size > 0 ? { text, by } : null
}

// openCheckpoint gives what a checkpoint of a partition says, or null when the key has not signed it.
function openCheckpoint (bytes, key, partition) {
  const origin = `${key.name}/p${partition}`
  const note = openNote(bytes, key, origin)
  if (note === null) return null
  const { text, by } = note
  const match = /^([^\n]+)\n(0|[1-9]\d*)\n([A-Za-z0-9+/]{43}=)\ncheckpoint (0|[1-9]\d*) page (0|[1-9]\d*)\n$/.exec(text)
  if (!match || match[1] !== origin || !strictBase64(match[3])) return null
  return { partition, size: Number(match[2]), root: strictBase64(match[3]), number: Number(match[4]), page: Number(match[5]), by }
}

// --- Pages -----------------------------------------------------------------------------------------------------------

const crcTable = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let k = 0; k < 8; k++) n = n & 1 ? 0x82f63b78 ^ (n >>> 1) : n >>> 1
  return n >>> 0
})

function crc32c (bytes) {
  let crc = 0xffffffff
  for (const b of bytes) crc = crcTable[(crc ^ b) & 255] ^ (crc >>> 8)
  return (crc ^ 0xffffffff) >>> 0
}

// Reader reads the msgpack that pages are made of; what it does not expect it throws at.
class Reader {
  constructor (bytes) { this.bytes = bytes; this.at = 0 }
  need (n) { if (this.at + n > this.bytes.length) throw new Error('too short'); this.at += n; return this.at - n }
  byte () { return this.bytes[this.need(1)] }
  uint (n) { let v = 0; for (const b of this.bytes.subarray(this.need(n), this.at)) v = v * 256 + b; return v }
  array () {
    const c = this.byte()
    if (c === 0xc0) return 0
    if (c >= 0x90 && c <= 0x9f) return c & 15
    if (c === 0xdc) return this.uint(2)
    if (c === 0xdd) return this.uint(4)
    throw new Error('no array')
  }

  number () {
    const c = this.byte()
    if (c <= 0x7f) return c
    if (c >= 0xe0) return c - 256
    if (c >= 0xcc && c <= 0xcf) return this.uint(1 << (c - 0xcc))
    if (c >= 0xd0 && c <= 0xd3) return this.uint(1 << (c - 0xd0))
    throw new Error('no number')
  }

  binary () {
    const c = this.byte()
    let n
    if (c >= 0xa0 && c <= 0xbf) n = c & 31
    else if (c === 0xc4 || c === 0xd9) n = this.uint(1)
    else if (c === 0xc5 || c === 0xda) n = this.uint(2)
    else if (c === 0xc6 || c === 0xdb) n = this.uint(4)
    else throw new Error('no bytes')
    return this.bytes.subarray(this.need(n), this.at)
  }
}

// eventsOf gives the events of a page, or null when the bytes are no page.
function eventsOf (data) {
  if (data.length <= 4 || crc32c(data.subarray(0, -4)) !== data.readUInt32BE(data.length - 4)) return null
  try {
    const r = new Reader(data.subarray(0, -4))
    if (r.array() < 7 || r.number() !== 1) return null
    for (let i = 0; i < 4; i++) r.number() // epoch, time, incarnation, commands read
    for (let n = r.array(); n > 0; n--) {
      if (r.array() !== 2 || r.binary().length !== 16) return null
      r.number()
    }
    const events = []
    for (let n = r.array(); n > 0; n--) events.push(r.binary())
    return r.at === r.bytes.length ? events : null
  } catch { return null }
}

// --- One partition ---------------------------------------------------------------------------------------------------

class Partition {
  constructor (number, key) {
    Object.assign(this, { partition: number, key, tree: new Tree(), number: 0, page: 0, next: 1, leaves: [], pages: [], said: [], differ: false, broken: null, found: null, known: [], signed: 0, signer: 0 })
  }

  fail (fault, where) {
    this.found ??= { fault, partition: this.partition, page: 0, index: -1, checkpoint: 0, line: 0, ...where }
  }

  begin (line) {
    const c = openCheckpoint(Buffer.from(line.note ?? ''), this.key, this.partition)
    const tree = Tree.parse(line.edge ?? '')
    if (!c || !tree || c.page !== line.page || tree.size !== c.size || !tree.root().equals(c.root)) return this.fail('checkpoint-signature', {})
    Object.assign(this, { tree, number: c.number, page: c.page, next: c.page + 1, signer: Math.max(...c.by) })
    for (const k of this.known) {
      if (k.size < c.size || (k.size === c.size && !k.root.equals(c.root))) this.fail('split-view', { checkpoint: k.number })
    }
  }

  takePage (line) {
    if (this.broken) return
    if (line.page !== this.next) { this.broken = { fault: 'page-missing', page: this.next }; return }
    const data = Buffer.from(line.data ?? '', 'base64')
    const events = eventsOf(data)
    if (!events) { this.broken = { fault: 'page-damaged', page: line.page }; return }
    events.forEach((e, i) => this.leaves.push(eventLeaf(this.partition, line.page, i, e)))
    this.leaves.push(pageLeaf(this.partition, line.page, data))
    this.pages.push({ page: line.page, end: this.leaves.length, events: events.length })
    this.next++
  }

  takeLeaves (line) {
    const data = Buffer.from(line.data ?? '', 'base64')
    const list = []
    for (let i = 0; i + 32 <= data.length; i += 32) list.push(data.subarray(i, i + 32))
    if (data.length % 32 !== 0) { this.differ = true; return }
    let at = (line.from ?? 0) - this.tree.size
    if (at < 0) { list.splice(0, -at); at = 0 } // of leaves that are signed already
    if (at > this.said.length) return
    for (const [i, h] of list.entries()) {
      if (at + i === this.said.length) this.said.push(h)
      else if (!this.said[at + i].equals(h)) this.differ = true
    }
  }

  takeCheckpoint (line) {
    const c = openCheckpoint(Buffer.from(line.note ?? ''), this.key, this.partition)
    const number = this.number + 1
    if (!c) return this.fail('checkpoint-signature', { checkpoint: number })
    if (!c.by.has(this.signer)) return this.fail('checkpoint-signature', { checkpoint: number }) // no key takes over by its own word
    if (c.number !== number) return this.fail('checkpoint-missing', { checkpoint: number })
    if (c.page !== line.page) return this.fail('checkpoint-header', { checkpoint: number })
    this.signer = Math.max(...c.by)
    const at = this.pages.findIndex(p => p.page === c.page)
    if (at < 0) return this.locate(c, this.leaves.length)
    const count = this.pages[at].end
    const tree = this.tree.copy()
    let split = false
    for (const leaf of this.leaves.slice(0, count)) {
      tree.add(leaf)
      split ||= this.known.some(k => k.size === tree.size && !k.root.equals(tree.root()))
    }
    if (tree.size !== c.size || !tree.root().equals(c.root)) return this.locate(c, count)
    if (split) return this.fail('split-view', { page: this.page + 1 })
    if (this.differ || this.said.length < count || this.said.slice(0, count).some((h, i) => !h.equals(this.leaves[i]))) return this.fail('leaves', { checkpoint: number })
    if (line.edge !== tree.toString()) return this.fail('checkpoint-header', { checkpoint: number })
    Object.assign(this, { tree, number, page: c.page, said: this.said.slice(count), differ: false, signed: this.signed + 1 })
    this.leaves.splice(0, count)
    this.pages.splice(0, at + 1)
    for (const p of this.pages) p.end -= count
  }

  // locate finds the first bad position by the leaf hashes that were said, when those give the signed root.
  locate (c, count) {
    const tree = this.tree.copy()
    const truth = this.said.slice(0, Math.max(0, c.size - tree.size))
    truth.forEach(h => tree.add(h))
    if (tree.size === c.size && tree.root().equals(c.root)) {
      for (let i = 0; i < Math.min(count, truth.length); i++) {
        if (this.leaves[i].equals(truth[i])) continue
        const p = this.pages.find(p => i < p.end)
        const index = i - (p.end - p.events - 1)
        return this.fail('page-changed', { page: p.page, index: index < p.events ? index : -1 })
      }
    }
    if (this.broken) return this.fail(this.broken.fault, { page: this.broken.page })
    if (c.page >= this.next) return this.fail('page-missing', { page: this.next })
    this.fail('pages-changed', { page: this.page + 1 })
  }

  end () {
    if (!this.found && this.broken) this.fail(this.broken.fault, { page: this.broken.page })
    if (this.known.some(k => k.size > this.tree.size)) this.fail('rolled-back', { page: this.page + 1 })
  }
}

// --- Exports and proofs ----------------------------------------------------------------------------------------------

function verifyExport (file, key, known) {
  const text = readFileSync(file, 'utf8')
  const parts = new Map()
  const part = n => {
    if (!parts.has(n)) parts.set(n, new Partition(n, key))
    return parts.get(n)
  }
  for (const k of known) part(k.partition).known.push(k)
  const bad = readLines(text, key, part, parts)
  const list = [...parts.values()].sort((a, b) => a.partition - b.partition)
  list.forEach(p => p.end())
  const findings = list.filter(p => p.found).map(p => p.found)
  if (!bad && findings.length === 0 && list.every(p => p.signed === 0)) {
    findings.push({ fault: 'nothing-proved', partition: 0, page: 0, index: -1, checkpoint: 0, line: 0, text: 'nothing is proved: there is no checkpoint' })
  }
  if (bad) findings.push({ fault: 'file', partition: 0, page: 0, index: -1, checkpoint: 0, line: bad })
  const reached = list.map(p => ({ partition: p.partition, page: p.page, leaves: p.tree.size, checkpoint: p.number, uncovered: p.next - 1 - p.page, checkpoints: p.signed }))
  return { file, findings, reached }
}

// readLines gives the number of the line at which the file is of no more use, or 0.
function readLines (text, key, part, parts) {
  const lines = text.split('\n')
  for (let n = 1; n <= lines.length; n++) {
    if (n === lines.length) return n // what follows the last newline is no line: the end has not come
    let line
    try { line = JSON.parse(lines[n - 1]) } catch { return n }
    if (n === 1) {
      if (line.format !== 'rollbook-export/v1' || line.name !== key.name || line.partitions.length === 0) return n
      line.partitions.forEach(part)
      continue
    }
    if (line.type === 'end') {
      if (line.lines !== n - 1) return n
      return lines.slice(n).join('\n') === '' ? 0 : n + 1
    }
    const p = parts.get(line.partition)
    if (!p) return n
    if (!['base', 'page', 'leaves', 'checkpoint'].includes(line.type)) return n
    if (line.data !== undefined && !strictBase64(line.data)) return n
    if (p.found) continue
    if (line.type === 'base') p.begin(line)
    else if (line.type === 'page') p.takePage(line)
    else if (line.type === 'leaves') p.takeLeaves(line)
    else p.takeCheckpoint(line)
  }
}

// rootOf folds an inclusion proof (RFC 9162, 2.1.3.2), or gives null.
function rootOf (leaf, index, size, path) {
  if (index >= size) return null
  let [fn, sn, r] = [index, size - 1, leaf]
  for (const p of path) {
    if (sn === 0) return null
    if (fn % 2 === 1 || fn === sn) {
      r = nodeHash(p, r)
      while (fn % 2 === 0 && fn !== 0) { fn = Math.floor(fn / 2); sn = Math.floor(sn / 2) }
    } else r = nodeHash(r, p)
    fn = Math.floor(fn / 2)
    sn = Math.floor(sn / 2)
  }
  return sn === 0 ? r : null
}

function provenBy (line, key) {
  const match = /^c2sp\.org\/tlog-proof@v1\n(?:extra [^\n]*\n)?index (0|[1-9]\d*)\n((?:[A-Za-z0-9+/]{43}=\n)*)\n([^]*)$/.exec(line.proof)
  if (!match) return 'no tlog-proof'
  const c = openCheckpoint(Buffer.from(match[3]), key, line.partition)
  if (!c) return 'the checkpoint is not signed by this key'
  const path = match[2].split('\n').slice(0, -1).map(strictBase64)
  if (path.includes(null) || line.page > c.page) return 'no tlog-proof'
  const leaf = eventLeaf(line.partition, line.page, line.index, Buffer.from(line.event ?? '', 'base64'))
  const root = rootOf(leaf, Number(match[1]), c.size, path)
  return root && root.equals(c.root) ? '' : 'the event is not in the tree'
}

// twice says so of an event that a proof before was of: who counts the events must not count one twice.
function twice (line, seen) {
  const at = `${line.partition}/${line.page}.${line.index}`
  if (seen.has(at)) return `the event at ${at} is in it twice`
  seen.add(at)
  return ''
}

function verifyProof (file, key) {
  const lines = readFileSync(file, 'utf8').split('\n').slice(0, -1)
  const seen = new Set()
  for (const [i, text] of lines.entries()) {
    let why
    try {
      const line = JSON.parse(text)
      if (i === 0) { if (line.format !== 'rollbook-proof/v1' || line.events !== lines.length - 1 || line.events < 1) why = 'no proof, or not a whole one' } else why = twice(line, seen) || provenBy(line, key)
    } catch { why = 'not a line of a proof' }
    if (why) return { file, good: false, line: i + 1, why }
  }
  return lines.length > 0 ? { file, good: true, events: seen.size } : { file, good: false, line: 1, why: 'empty' }
}

// --- The command line ------------------------------------------------------------------------------------------------

const [what, ...args] = process.argv.slice(2)
const options = { vkey: '', known: [], files: [] }
for (let i = 0; i < args.length; i++) {
  if (args[i] === '--vkey') options.vkey += ` ${args[++i]}`
  else if (args[i] === '--known') options.known.push(args[++i])
  else options.files.push(args[i])
}
// refuse ends with what is wrong with the command line: nothing was verified then.
const refuse = why => { console.error(`verify.mjs: ${why}`); process.exit(2) }
if (!['export', 'proof'].includes(what) || !options.vkey || options.files.length === 0) {
  refuse('node verify.mjs export|proof --vkey VKEY... [--known FILE]... FILE..., where VKEY is the text of a public key')
}
let key
try { key = parseKeys(options.vkey) } catch (e) { refuse(`--vkey: ${e.message}`) }
const known = options.known.map(path => {
  const bytes = readFileSync(path)
  const partition = Number(/\/p(\d+)\n/.exec(bytes.toString())?.[1])
  return openCheckpoint(bytes, key, partition) ?? refuse(`${path} is no checkpoint by this key`)
})
for (const file of options.files) {
  const said = what === 'proof' ? verifyProof(file, key) : verifyExport(file, key, known)
  console.log(JSON.stringify(said))
  if (said.findings?.length > 0 || said.good === false) process.exitCode = 1
}
