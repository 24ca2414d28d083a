// client.js over WebSocket, as a web page would connect.
'use strict'
const mqtt = require('mqtt')
const connect = o => mqtt.connect({ ...o, protocol: o.protocol === 'mqtts' ? 'wss' : 'ws', path: '/mqtt' })
require.cache[require.resolve('mqtt')].exports = { connect }
require('./client.js')
