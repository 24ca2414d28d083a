// The parts of ESP-IDF's mqtt_client.h that esp_idf_device.h uses.
#pragma once

typedef struct esp_mqtt_client *esp_mqtt_client_handle_t;

typedef struct {
  struct {
    struct {
      const char *uri;
    } address;
    struct {
      const char *certificate;
    } verification;
  } broker;
  struct {
    const char *client_id;
    struct {
      const char *certificate;
      const char *key;
    } authentication;
  } credentials;
  struct {
    int keepalive;
  } session;
} esp_mqtt_client_config_t;

esp_mqtt_client_handle_t esp_mqtt_client_init(const esp_mqtt_client_config_t *config);
