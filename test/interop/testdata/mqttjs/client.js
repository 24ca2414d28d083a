// mqtt.js, driven by JSON commands on standard input; see remote_test.go.
'use strict'
const fs = require('node:fs')
const readline = require('node:readline')
const mqtt = require('mqtt')

const connections = new Map()

function tell (call, event, more) {
  process.stdout.write(JSON.stringify({ Call: call, Event: event, ...more }) + '\n')
}

function propertiesOf (m) {
  const p = {}
  if (m.ContentType) p.contentType = m.ContentType
  if (m.ResponseTopic) p.responseTopic = m.ResponseTopic
  if (m.Correlation !== null) p.correlationData = Buffer.from(m.Correlation, 'base64')
  if (m.UTF8) p.payloadFormatIndicator = true
  if (m.Expiry) p.messageExpiryInterval = m.Expiry
  for (const u of m.User || []) {
    const at = u.indexOf(':')
    p.userProperties ||= {}
    ;(p.userProperties[u.slice(0, at)] ||= []).push(u.slice(at + 1))
  }
  return p
}

const payloadOf = m => Buffer.from(m.Payload || '', 'base64')

function optionsOf (c) {
  const s = c.Session
  const o = {
    host: c.Host,
    port: c.Port,
    protocol: c.TLS ? 'mqtts' : 'mqtt',
    protocolVersion: s.Version,
    protocolId: s.Version === 3 ? 'MQIsdp' : 'MQTT',
    clientId: s.ID,
    clean: !s.Persistent,
    reconnectPeriod: 0
  }
  if (c.TLS) {
    o.ca = fs.readFileSync(c.TLS.CA)
    if (c.TLS.Cert) {
      o.cert = fs.readFileSync(c.TLS.Cert)
      o.key = fs.readFileSync(c.TLS.Key)
    }
  }
  if (s.Version === 5 && s.Persistent) o.properties = { sessionExpiryInterval: c.Expiry }
  if (s.Will) {
    o.will = { topic: s.Will.Topic, payload: payloadOf(s.Will), qos: s.Will.QoS, retain: s.Will.Retain }
    if (s.Version === 5) o.will.properties = propertiesOf(s.Will)
  }
  return o
}

function open (c) {
  const client = mqtt.connect(optionsOf(c))
  connections.set(c.Call, client)
  const v5 = c.Session.Version === 5
  client.on('error', e => tell(c.Call, 'error', { Error: String(e) }))
  client.on('close', () => {
    tell(c.Call, 'error', { Error: 'connection closed' })
    tell(c.Call, 'closed')
  })
  client.on('message', (topic, payload, packet) => {
    const m = { Topic: topic, Payload: payload.toString('base64'), QoS: packet.qos, Retain: packet.retain }
    const p = packet.properties || {}
    m.ContentType = p.contentType || ''
    m.ResponseTopic = p.responseTopic || ''
    if (p.correlationData !== undefined) m.Correlation = p.correlationData.toString('base64')
    m.UTF8 = Boolean(p.payloadFormatIndicator)
    m.Expiry = p.messageExpiryInterval || 0
    if (p.userProperties) {
      m.User = Object.entries(p.userProperties).flatMap(([k, v]) => [v].flat().map(x => k + ':' + x))
    }
    tell(c.Call, 'message', { Message: m })
  })
  client.once('connect', async () => {
    try {
      if (c.Op === 'listen') {
        const granted = await client.subscribeAsync(
          Object.fromEntries(c.Subscriptions.map(s => [s.Filter, { qos: s.QoS }])))
        const failed = granted.filter(g => g.qos >= 0x80)
        if (failed.length > 0) throw new Error('SUBACK ' + JSON.stringify(failed))
      } else {
        for (const m of c.Messages) {
          const o = { qos: m.QoS, retain: m.Retain }
          if (v5) o.properties = propertiesOf(m)
          await client.publishAsync(m.Topic, payloadOf(m), o)
        }
      }
      tell(c.Call, 'ready')
      if (c.Op === 'publish') client.end()
    } catch (e) {
      tell(c.Call, 'error', { Error: String(e) })
    }
  })
}

const lines = readline.createInterface({ input: process.stdin, crlfDelay: Infinity })
lines.on('line', line => {
  const c = JSON.parse(line)
  if (c.Op === 'stop') connections.get(c.Call).end()
  else if (c.Op === 'kill') connections.get(c.Call).stream.destroy()
  else open(c)
})
lines.on('close', () => process.exit(0))
