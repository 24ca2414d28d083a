// Identity of {{.ID}} for {{.URL}}, valid until {{.Until}}.
// It holds the private key: keep it out of public repositories.
#pragma once

#define SEALMQ_HOST "{{.Host}}"
#define SEALMQ_PORT {{.Port}}
#define SEALMQ_ID "{{.ID}}"

static const char SEALMQ_CA[] PROGMEM = R"PEM(
{{.CA}}
)PEM";

static const char SEALMQ_CERT[] PROGMEM = R"PEM(
{{.Cert}}
)PEM";

static const char SEALMQ_KEY[] PROGMEM = R"PEM(
{{.Key}}
)PEM";

/* A whole sketch, with the library PubSubClient. Put this header beside it.

#include <PubSubClient.h>
#include <time.h>
#ifdef ESP8266
#include <ESP8266WiFi.h>
#else
#include <WiFi.h>
#endif
#include <WiFiClientSecure.h>
#include "arduino_device.h"

WiFiClientSecure tls;
PubSubClient mqtt(tls);

void onMessage(char *topic, byte *payload, unsigned int length) {
  Serial.print(topic);
  Serial.print(' ');
  Serial.write(payload, length);
  Serial.println();
}

void setup() {
  Serial.begin(115200);
  WiFi.begin("network", "password");
  while (WiFi.status() != WL_CONNECTED) delay(200);

  // Certificates have dates: without the time none is valid.
  configTime(0, 0, "pool.ntp.org");
  while (time(nullptr) < 1700000000) delay(200);

#ifdef ESP8266
  static BearSSL::X509List ca(SEALMQ_CA), cert(SEALMQ_CERT);
  static BearSSL::PrivateKey key(SEALMQ_KEY);
  tls.setBufferSizes(1024, 512);
  tls.setTrustAnchors(&ca);
  tls.setClientECCert(&cert, &key, BR_KEYTYPE_SIGN, BR_KEYTYPE_EC);
#else
  tls.setCACert(SEALMQ_CA);
  tls.setCertificate(SEALMQ_CERT);
  tls.setPrivateKey(SEALMQ_KEY);
#endif
  mqtt.setServer(SEALMQ_HOST, SEALMQ_PORT);
  mqtt.setCallback(onMessage);
}

void loop() {
  if (!mqtt.connected()) {
    if (!mqtt.connect(SEALMQ_ID)) {
      Serial.printf("MQTT: state %d\n", mqtt.state());
      delay(5000);
      return;
    }
    mqtt.subscribe(SEALMQ_ID "/#", 1);
    mqtt.publish(SEALMQ_ID "/hello", "world");
  }
  mqtt.loop();
}

*/
