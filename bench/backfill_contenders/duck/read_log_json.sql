create table read_uploads as
select
    row_number() over () as id, filename as object, upper(trim(device_no)) as device_no,
    fw as firmware_version, boot as boot_count, seq,
    epoch_ms(strptime(left(timestamp, 19), '%Y-%m-%dT%H:%M:%S'))
        - case when ends_with(timestamp, 'KST') then 32400000 else 0 end as received,
    left(sha256(upper(trim(device_no)) || '|log|' || boot || '|' || seq), 32) as message_id,
    null::bigint as "offset", ts as device_time,
    d.lat as lat_deg, d.lon as lon_deg, d.ign as ignition_on, d.eng as engine_running,
    d.spd as speed_kmh, d.odo as odometer_m, d.fuel as fuel_level_pct, d.soc as ev_soc_pct,
    d.chg as ev_charging, d.bat as aux_battery_v, d.bbat as backup_battery_v, d.rpm as engine_rpm,
    d.ct as coolant_temp_c, d.cab as cabin_temp_c, d.hd as heading_deg, d.door as door_state_bits,
    d.dopen as door_open, d.lock as locked, d.hl as headlamp_on, d.tp as tire_pressure_kpa,
    d.dtc as dtc_codes, d.rssi as cell_rssi_dbm
from read_json(
    getvariable('archive') || '/topics/message-log/*/*/*/*/*.json.gz',
    format = 'newline_delimited', compression = 'gzip', filename = true,
    columns = {
        device_no: 'VARCHAR', fw: 'VARCHAR', boot: 'INTEGER', seq: 'BIGINT', timestamp: 'VARCHAR',
        ts: 'BIGINT',
        d: 'STRUCT(lat DOUBLE, lon DOUBLE, ign BOOLEAN, eng BOOLEAN, spd FLOAT, odo BIGINT,
            fuel FLOAT, soc FLOAT, chg BOOLEAN, bat FLOAT, bbat FLOAT, rpm FLOAT, ct FLOAT,
            cab FLOAT, hd FLOAT, door INTEGER, dopen BOOLEAN, lock BOOLEAN, hl BOOLEAN,
            tp FLOAT[], dtc VARCHAR[], rssi INTEGER)'});
