{% test enrichment_complete(model, min_done=1.0) %}
  with counted as (
    select
      count(*) as staged_rows,
      count(*) filter (enrichment_status = 'done') as done_rows
    from {{ model }}
  )
  select
    staged_rows,
    done_rows,
    done_rows / staged_rows as share_done
  from counted
  where staged_rows > 0
    and done_rows / staged_rows < {{ min_done }}
{% endtest %}
