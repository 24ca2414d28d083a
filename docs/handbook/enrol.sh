#!/bin/sh
# enrol.sh HOST PORT ID TOKEN   makes key.pem and cert.pem; ca.pem, the broker's root, has to be there
# enrol.sh HOST PORT ID         replaces them by new ones, with the certificate that is there
set -eu
umask 077
host=$1 port=$2 id=$3 token=${4-}
if [ "$token" ]
then about="\$pki/enroll/$id" client=$id proof=
else about='$pki/renew' client=$id/renew proof='--cert cert.pem --key key.pem'
fi
[ -s new.key ] || openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out new.key
csr=$(openssl req -new -key new.key -subj / -outform DER | openssl base64 -A)
answer=$(mosquitto_rr -V 5 -h "$host" -p "$port" --cafile ca.pem $proof -i "$client" -q 1 -W 30 \
	-t "$about/request" -e "$about/accepted" -m "{\"csr\":\"$csr\",\"token\":\"$token\"}")
cert=$(printf %s "$answer" | sed -n 's/.*"certificate":"\([^"]*\)".*/\1/p')
[ "$cert" ] || { echo "$answer" >&2; exit 1; }
printf %b "$cert" >cert.pem
mv new.key key.pem
