copy (
    select t.* exclude (id, event, received, object)
            replace (make_timestamptz(device_time * 1000) as device_time),
        make_timestamptz(event * 1000) as event_time,
        make_timestamptz(received * 1000) as received_time,
        regexp_replace(t.object, '^.*/topics/', '') as object, t.id - f.first_id as line,
        split_part(t.object, '+', 2)::integer as "partition", 'STS' as device_gen,
        null::bigint as uptime_s,
        strftime(make_timestamp((event + 32400000) * 1000), '%Y-%m-%d') as date,
        strftime(make_timestamp((event + 32400000) * 1000), '%H') as hour
    from telemetry t join (select object, min(id) as first_id from heads group by object) f
      on f.object = t.object
) to (getvariable('out') || '/telemetry_' || getvariable('kind'))
(format parquet, compression zstd, partition_by (date, hour));
copy minutes to (getvariable('out') || '/vehicle_minutes/minutes.parquet')
(format parquet, compression zstd);
