package policy

// Starter is the policy of a broker's first start: devices have topics of their own, operators everything.
func Starter() string { return starter }

const starter = `# Who may do what. Nothing is allowed that no rule here allows, and a rule that denies wins over all that allow.
#
#   sealmq acl test                      are the assertions below true
#   sealmq acl explain --device pump-17 publish pump-17/temp
#   sealmq acl lint                      what looks wrong
#
# A change is in force at the next reload (SIGHUP); a file with a mistake changes nothing. Users of a password or token have
# no rights yet: give them a group { user = [alice, bob] } or { groups has ops }, and a policy.

group devices { kind = device }
group operators { kind = operator }
group anonymous { method = anonymous }

# A device connects as itself, or as several: pump-17, pump-17/logger.
bind client_id = ${device} or ${device}/*

policy devices "their own topics, and their certificates" {
  allow publish, subscribe ${device}/#
  allow publish, subscribe $pki/renew/#
  allow publish, subscribe $pki/cacerts/#
}

# Whoever comes by a listener with anonymous = true, which is open to all.
policy anonymous "what is open" {
  allow publish, subscribe #
}

policy operators "everything" {
  allow publish, subscribe #
  allow publish, subscribe $pki/renew/#
  allow publish, subscribe $pki/cacerts/#
  allow subscribe $SYS/#
}

# Who may learn, with MQTT 5, which rule is in the way.
tell devices, operators

assert allow { device = pump-17 } publish pump-17/temp qos=1
assert allow { device = pump-17 } subscribe pump-17/commands/#
assert deny { device = pump-17 } publish pump-18/temp
assert deny { device = pump-17 } subscribe #
assert deny { user = alice } subscribe alice/#
assert deny { method = anonymous } subscribe $SYS/#
assert allow { user = alice kind = operator } subscribe $SYS/#
`
