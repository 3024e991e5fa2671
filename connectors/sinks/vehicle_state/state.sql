-- The newest of each vehicle and of each terminal, for the operation of the service (docs/sinks/vehicle_state.md).
-- Applied by `odograph database apply`; running it again changes nothing. Columns come in groups that
-- one telemetry row sets together, whose clocks and place stand behind them.

-- Which row that was. Attributes stand in the order in which rows of one instant are compared.
DO $$ BEGIN
    CREATE TYPE telemetry_row AS (
        topic       text COLLATE "C",
        "partition" integer,
        "offset"    bigint,
        sample_idx  integer,
        revision    bigint,
        message_id  text COLLATE "C"
    );
EXCEPTION WHEN duplicate_object THEN NULL;
END $$;

-- Room is left on each page, so that a row is changed in place and indexes stay as they are.
CREATE TABLE IF NOT EXISTS vehicle_state (
    vehicle_id             text PRIMARY KEY CHECK (vehicle_id <> ''),

    lat_deg                double precision CHECK (lat_deg BETWEEN -90 AND 90),
    lon_deg                double precision CHECK (lon_deg BETWEEN -180 AND 180),
    heading_deg            real CHECK (heading_deg < 'infinity'),
    accuracy_m             real CHECK (accuracy_m < 'infinity'),
    position_event_time    timestamptz,
    position_received_time timestamptz,
    position_row           telemetry_row,

    speed_kmh              real CHECK (speed_kmh BETWEEN 0 AND 300),
    speed_event_time       timestamptz,
    speed_received_time    timestamptz,
    speed_row              telemetry_row,

    ignition_on            boolean,
    engine_running         boolean,
    ignition_event_time    timestamptz,
    ignition_received_time timestamptz,
    ignition_row           telemetry_row,

    locked                 boolean,
    door_open              boolean,
    door_state_bits        integer,
    lock_event_time        timestamptz,
    lock_received_time     timestamptz,
    lock_row               telemetry_row,

    odometer_m             bigint CHECK (odometer_m >= 0),
    odometer_event_time    timestamptz,
    odometer_received_time timestamptz,
    odometer_row           telemetry_row,

    aux_battery_v          real CHECK (aux_battery_v < 'infinity'),
    backup_battery_v       real CHECK (backup_battery_v < 'infinity'),
    battery_event_time     timestamptz,
    battery_received_time  timestamptz,
    battery_row            telemetry_row,

    fuel_level_pct         real CHECK (fuel_level_pct BETWEEN 0 AND 100),
    ev_soc_pct             real CHECK (ev_soc_pct BETWEEN 0 AND 100),
    ev_charging            boolean,
    energy_event_time      timestamptz,
    energy_received_time   timestamptz,
    energy_row             telemetry_row,

    device_no              text,
    seen_event_time        timestamptz,
    seen_received_time     timestamptz,
    seen_row               telemetry_row,

    last_received_time     timestamptz NOT NULL,
    updated_at             timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 60);

CREATE INDEX IF NOT EXISTS vehicle_state_device_no ON vehicle_state (device_no);

CREATE TABLE IF NOT EXISTS device_state (
    device_no              text PRIMARY KEY CHECK (device_no <> ''),

    lat_deg                double precision CHECK (lat_deg BETWEEN -90 AND 90),
    lon_deg                double precision CHECK (lon_deg BETWEEN -180 AND 180),
    heading_deg            real CHECK (heading_deg < 'infinity'),
    accuracy_m             real CHECK (accuracy_m < 'infinity'),
    position_event_time    timestamptz,
    position_received_time timestamptz,
    position_row           telemetry_row,

    speed_kmh              real CHECK (speed_kmh BETWEEN 0 AND 300),
    speed_event_time       timestamptz,
    speed_received_time    timestamptz,
    speed_row              telemetry_row,

    ignition_on            boolean,
    engine_running         boolean,
    ignition_event_time    timestamptz,
    ignition_received_time timestamptz,
    ignition_row           telemetry_row,

    locked                 boolean,
    door_open              boolean,
    door_state_bits        integer,
    lock_event_time        timestamptz,
    lock_received_time     timestamptz,
    lock_row               telemetry_row,

    odometer_m             bigint CHECK (odometer_m >= 0),
    odometer_event_time    timestamptz,
    odometer_received_time timestamptz,
    odometer_row           telemetry_row,

    aux_battery_v          real CHECK (aux_battery_v < 'infinity'),
    backup_battery_v       real CHECK (backup_battery_v < 'infinity'),
    battery_event_time     timestamptz,
    battery_received_time  timestamptz,
    battery_row            telemetry_row,

    fuel_level_pct         real CHECK (fuel_level_pct BETWEEN 0 AND 100),
    ev_soc_pct             real CHECK (ev_soc_pct BETWEEN 0 AND 100),
    ev_charging            boolean,
    energy_event_time      timestamptz,
    energy_received_time   timestamptz,
    energy_row             telemetry_row,

    vehicle_id             text,
    seen_event_time        timestamptz,
    seen_received_time     timestamptz,
    seen_row               telemetry_row,

    last_received_time     timestamptz NOT NULL,
    updated_at             timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 60);
