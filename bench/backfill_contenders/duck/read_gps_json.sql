create table read_uploads as
select
    row_number() over () as id, filename as object, upper(trim(device_no)) as device_no,
    fw as firmware_version, boot as boot_count, seq,
    epoch_ms(strptime(left(timestamp, 19), '%Y-%m-%dT%H:%M:%S'))
        - case when ends_with(timestamp, 'KST') then 32400000 else 0 end as received,
    left(sha256(upper(trim(device_no)) || '|gps|' || boot || '|' || seq), 32) as message_id,
    null::bigint as "offset",
    list_transform(data, lambda s: {
        device_time: s.ts, lat_deg: s.lat, lon_deg: s.lon,
        fix_type: case s.fix when 3 then 'THREE_D' when 2 then 'TWO_D' when 4 then 'DEAD_RECKONING'
                  when 0 then 'NONE' when 1 then 'NONE' else 'UNKNOWN' end,
        altitude_m: s.alt, speed_kmh: s.sp, heading_deg: s.hd, hdop: s.dop, accuracy_m: s.acc,
        satellites: s.nos}) as samples
from read_json(
    getvariable('archive') || '/topics/message-gps/*/*/*/*/*.json.gz',
    format = 'newline_delimited', compression = 'gzip', filename = true,
    columns = {
        device_no: 'VARCHAR', fw: 'VARCHAR', boot: 'INTEGER', seq: 'BIGINT', timestamp: 'VARCHAR',
        data: 'STRUCT(ts BIGINT, lat DOUBLE, lon DOUBLE, fix INTEGER, alt FLOAT, sp FLOAT,
                      hd FLOAT, dop FLOAT, acc FLOAT, nos INTEGER)[]'});
